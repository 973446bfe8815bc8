"""The critic through OpenRLHF's own loading and loss: its trunk is the start model's, its head is fresh, and a gold prefix is context only.

The public code of the method loaded its critic by keys that matched nothing and trained from a random trunk without saying so.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from openrlhf.trainer.ppo_utils.experience import Experience
    from torch import nn
    from transformers import PreTrainedModel

HIDDEN = 64
PROMPT, GOLD, ANSWER = [5, 6, 7], [8, 9, 10], [11, 12, 13, 14]
TOKENS = PROMPT + GOLD + ANSWER
MASK = [0] * (len(PROMPT) + len(GOLD) - 1) + [1] * len(ANSWER)
"""As a rollout makes it: position t stands for the token t + 1."""


@pytest.fixture(scope="module", params=["tied", "untied"])
def start_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy's start model: tied embeddings as small models have them, or an output matrix that the critic has no use for."""
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp(request.param) / "model"
    build_tiny_model(
        folder,
        task="chain",
        layers=2,
        hidden=HIDDEN,
        heads=2,
        context=64,
        tie_embeddings=request.param == "tied",
        seed=3,
    )
    return folder


def make_critic(model: Path, seed: int = 0, init_value_head: bool = True) -> PreTrainedModel:
    """As upstream's critic actor makes it for a policy and a critic of one path, in float32 on a CPU."""
    from openrlhf.models import get_llm_for_sequence_regression

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_llm_for_sequence_regression(
            str(model),
            "critic",
            normalize_reward=False,
            attn_implementation="sdpa",
            param_dtype="float32",
            value_head_prefix="score",
            init_value_head=init_value_head,
        ).eval()


def trunk_differences(critic: nn.Module, model: Path) -> list[str]:
    """Tensors of the saved model's trunk that the critic does not hold bit for bit, and trunk tensors that it has beyond them."""
    from safetensors.torch import load_file

    saved = {k: v for k, v in load_file(model / "model.safetensors").items() if k != "lm_head.weight"}
    ours = {k: v for k, v in critic.state_dict().items() if not k.startswith("score.")}
    return [
        k for k in sorted(saved.keys() | ours.keys()) if k not in ours or k not in saved or not saved[k].equal(ours[k])
    ]


def test_every_tensor_of_the_trunk_is_the_start_models(start_model: Path) -> None:
    critic = make_critic(start_model)
    assert trunk_differences(critic, start_model) == []
    assert len(critic.state_dict()) == 1 + 2 * 9 + 1 + 1, "embedding, 2 layers of 9 tensors, last norm, head"


def test_a_random_trunk_would_show(start_model: Path) -> None:
    # The control: a critic built from the config alone, which is what the public code trained.
    loaded = make_critic(start_model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = type(loaded)(loaded.config)
    matrices = {name for name, _ in critic.named_parameters() if "norm" not in name} - {"score.weight"}
    assert set(trunk_differences(critic, start_model)) == matrices
    assert len(matrices) == 1 + 2 * 7


def test_one_lost_tensor_would_show(start_model: Path) -> None:
    critic = make_critic(start_model)
    with torch.no_grad():
        critic.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-6
    assert trunk_differences(critic, start_model) == ["model.layers.1.mlp.up_proj.weight"]


def test_the_trunk_computes_what_the_policy_computes(start_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(start_model, dtype=torch.float32).eval()
    tokens = torch.tensor([TOKENS])
    with torch.no_grad():
        wanted = policy(tokens, output_hidden_states=True).hidden_states[-1]
        critic = make_critic(start_model)
        outputs = critic(tokens, attention_mask=torch.ones_like(tokens), return_output=True)
    torch.testing.assert_close(outputs["last_hidden_state"], wanted)


def test_the_head_is_fresh_without_bias_and_small(start_model: Path) -> None:
    heads = [make_critic(start_model, seed).score for seed in (0, 1, 0)]
    assert all(head.weight.shape == (1, HIDDEN) and head.bias is None for head in heads)
    assert heads[0].weight.equal(heads[2].weight)
    assert not heads[0].weight.equal(heads[1].weight)
    # N(0, 1 / (hidden + 1)): 64 draws have a spread within a factor of 1.5 of that.
    for head in heads:
        assert 1 / 1.5 < head.weight.std().item() * (HIDDEN + 1) < 1.5


def test_upstreams_actor_makes_the_critic_in_the_way_tested_here() -> None:
    """Its call names a critic and asks for a fresh head where policy and critic are one path; what else it passes follows the config."""
    from openrlhf.trainer.ray.ppo_critic import CriticModelActor

    from openrlhf_ext.upstream.actors import undecorated

    source = inspect.getsource(inspect.getmodule(undecorated(CriticModelActor)))
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if getattr(node.func, "id", "") == "get_llm_for_sequence_regression"]
    assert ast.unparse(call.args[0]) == "pretrain"
    assert ast.literal_eval(call.args[1]) == "critic"
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert (
        given["init_value_head"] == "strategy.args.actor.model_name_or_path == strategy.args.critic.model_name_or_path"
    )
    assert given["param_dtype"] == "strategy.args.ds.param_dtype"
    assert given["value_head_prefix"] == "strategy.args.ds.value_head_prefix"


def test_a_config_without_a_critic_path_takes_the_policys(start_model: Path) -> None:
    from openrlhf_ext.config.load import load

    settings = {"actor.model_name_or_path": str(start_model), "task.name": "chain", "run.dir": "r"}
    args = load("reverse-curriculum", None, list(settings.items())).upstream_args()
    assert args.critic.model_name_or_path == args.actor.model_name_or_path == str(start_model)
    assert args.ds.value_head_prefix == "score"
    assert args.reward.normalize_enable is False


def values(critic: nn.Module, tokens: list[int], mask: list[int] = MASK) -> torch.Tensor:
    """Values [1, A] as the critic's worker gives them to the experience maker."""
    sequences = torch.tensor([tokens])
    with torch.no_grad():
        return critic(sequences, torch.tensor([mask]), torch.ones_like(sequences))


def test_values_are_of_generated_tokens_and_see_the_gold_prefix(start_model: Path) -> None:
    critic = make_critic(start_model)
    given = values(critic, TOKENS)[0]
    assert given.shape == (len(TOKENS) - 1,)
    assert (given != 0).tolist() == [bool(m) for m in MASK]
    other = values(critic, [*PROMPT, 15, *GOLD[1:], *ANSWER])[0]
    assert ((given - other).abs() > 0).tolist() == [bool(m) for m in MASK], (
        "another gold line, other values of every action"
    )
    later = values(critic, [*TOKENS[:-1], 15])[0]
    assert later.equal(given), "the value of a state does not see the token that is chosen in it"


class Strategy:
    """One rank: the gradient of a backward pass, and no step."""

    ring_attn_group = None
    accumulated_gradient = 1

    def __init__(self, args: SimpleNamespace) -> None:
        self.args = args

    def backward(self, loss: torch.Tensor, model: nn.Module, optimizer: object) -> None:
        loss.backward()

    def optimizer_step(self, *_unused: object, name: str) -> None:
        assert name == "critic"

    def get_grad_norm(self, model: nn.Module) -> float:
        return sum(p.grad.pow(2).sum().item() for p in model.parameters()) ** 0.5

    def all_reduce(self, data: dict) -> dict:
        return data

    def is_rank_0(self) -> bool:
        return False


def experience(**fields: torch.Tensor) -> Experience:
    """One rollout sample as the workers are given it."""
    from openrlhf.trainer.ppo_utils.experience import Experience

    return Experience(
        sequences=torch.tensor([TOKENS]),
        attention_mask=torch.ones(1, len(TOKENS), dtype=torch.long),
        action_mask=torch.tensor([MASK]),
        info={"reward": torch.tensor([1.0])},
        prompts=["p"],
        labels=["l"],
        images=[None],
        mm_train_inputs=[None],
        **fields,
    )


def update(critic: nn.Module, **changes: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """Status and gradient of the head after one pass of upstream's critic trainer over one experience with ``changes``."""
    from openrlhf.trainer.ray.ppo_critic import CriticPPOTrainer

    args = SimpleNamespace(
        train=SimpleNamespace(max_epochs=1, dynamic_batch_enable=False),
        ds=SimpleNamespace(packing_samples=False, tensor_parallel_size=1),
        actor=SimpleNamespace(aux_loss_coef=0.0),
    )
    scheduler = SimpleNamespace(get_last_lr=lambda: [1e-3])
    trainer = CriticPPOTrainer(
        Strategy(args), critic, None, scheduler, micro_train_batch_size=1, value_clip=0.2, dataloader_pin_memory=False
    )
    old = values(critic, TOKENS)
    fields = {
        "values": old - 0.1,
        "returns": torch.tensor([[0.0] * (len(MASK) - 4) + [0.1, 0.3, 0.5, 1.0]]),
        "advantages": torch.zeros(1, len(MASK)),
        "action_log_probs": torch.zeros(1, len(MASK)),
    } | changes
    trainer.replay_buffer.append(experience(**fields))
    critic.zero_grad()
    return trainer.ppo_train(), critic.score.weight.grad.clone()


def off_action(noise: float) -> torch.Tensor:
    return torch.tensor([[noise * (1 - m) for m in MASK]])


def test_the_gold_prefix_carries_no_value_loss(start_model: Path) -> None:
    """Any return and any old value at the prompt and its gold prefix: the same loss and the same gradient."""
    critic = make_critic(start_model)
    status, slope = update(critic)
    old, returns = values(critic, TOKENS) - 0.1, torch.tensor([[0.0] * (len(MASK) - 4) + [0.1, 0.3, 0.5, 1.0]])
    changed, again = update(critic, values=old + off_action(1e4), returns=returns - off_action(1e4))
    assert changed["critic_loss"] == status["critic_loss"] > 0
    assert again.equal(slope)
    assert slope.abs().max() > 0


def test_the_value_loss_by_hand(start_model: Path) -> None:
    # 1/2 mean over the 4 generated tokens of max((clip(V, V_old +- .2) - R)^2, (V - R)^2); V = V_old + .1 is inside the clip.
    critic = make_critic(start_model)
    v = values(critic, TOKENS)[0, -4:].tolist()
    status, _ = update(critic)
    wanted = 0.5 * sum((a - b) ** 2 for a, b in zip(v, [0.1, 0.3, 0.5, 1.0], strict=True)) / 4
    assert status["critic_loss"] == pytest.approx(wanted, rel=1e-5)
    assert status["values"] == pytest.approx(sum(v) / 4, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("position", range(1, 5))
def test_every_generated_token_carries_value_loss(start_model: Path, position: int) -> None:
    # The control: the same disturbance at an action changes the loss and the gradient.
    critic = make_critic(start_model)
    status, slope = update(critic)
    returns = torch.tensor([[0.0] * (len(MASK) - 4) + [0.1, 0.3, 0.5, 1.0]])
    returns[0, -position] += 1.0
    changed, again = update(critic, returns=returns)
    assert abs(changed["critic_loss"] - status["critic_loss"]) > 0.01
    assert not again.equal(slope)


def test_updates_move_the_values_towards_the_returns(start_model: Path) -> None:
    critic = make_critic(start_model)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        status, _ = update(critic)
        losses.append(status["critic_loss"])
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


def test_a_policy_that_does_not_learn_yet_can_forget_what_it_was_given() -> None:
    """OpenRLHF hands every step to the policy's buffer, also while `critic.freezing_steps` lets the critic alone learn."""
    from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer

    from openrlhf_ext.workers import PolicyWorker

    buffer = NaiveReplayBuffer(1)
    worker = SimpleNamespace(trainer=SimpleNamespace(replay_buffer=buffer))
    for _ in range(3):
        PolicyWorker.append(worker, experience(values=torch.zeros(1, len(MASK))))
    assert len(buffer) == 3, "nothing but fit empties it"
    PolicyWorker.drop_experience(worker)
    assert len(buffer) == 0
