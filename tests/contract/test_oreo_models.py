"""OREO's models as OpenRLHF and transformers make them: a value of exactly zero at the start, log-probs of the actions without the table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
IS_ACTION = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]]).bool()


@pytest.fixture(scope="module", params=["tied", "untied"])
def start_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp(request.param) / "model"
    build_tiny_model(
        folder,
        task="chain",
        layers=2,
        hidden=64,
        heads=2,
        context=64,
        tie_embeddings=request.param == "tied",
        seed=3,
    )
    return folder


def critic_of_the_worker(folder: Path, adapter=None):
    """As upstream's critic worker builds it, inside our block."""
    from openrlhf.trainer.ray import ppo_critic

    from openrlhf_ext.upstream.value_head import zero_value_heads

    with zero_value_heads(adapter):
        return ppo_critic.get_llm_for_sequence_regression(
            str(folder),
            "critic",
            normalize_reward=False,
            attn_implementation="sdpa",
            param_dtype="float32",
            ds_config={"zero_optimization": {"stage": 2}},
            value_head_prefix="score",
            init_value_head=True,
        )


def test_the_value_of_every_text_is_exactly_zero_at_the_start(start_model: Path) -> None:
    from openrlhf.trainer.ray import ppo_critic

    critic = critic_of_the_worker(start_model)
    values = critic(TOKENS, torch.ones_like(TOKENS[:, 1:]), MASK)
    assert values.shape == (2, 5) and not values.any()
    values.sum().backward()
    assert critic.score.weight.grad.abs().max() > 0, "and it can learn"
    drawn = ppo_critic.get_llm_for_sequence_regression(
        str(start_model), "critic", attn_implementation="sdpa", param_dtype="float32", init_value_head=True
    )
    assert drawn.score.weight.any(), "the control: upstream's own head is drawn"


def test_a_saved_head_is_kept_and_loaded_for_a_search(start_model: Path, tmp_path: Path) -> None:
    from openrlhf_ext.upstream.value_head import load_value_model, stores_head

    critic = critic_of_the_worker(start_model)
    with torch.no_grad():
        critic.score.weight += torch.linspace(-1, 1, 64)
    critic.save_pretrained(tmp_path / "value")
    assert stores_head(str(tmp_path / "value"), "score") and not stores_head(str(start_model), "score")
    assert critic_of_the_worker(tmp_path / "value").score.weight.equal(critic.score.weight)
    loaded = load_value_model(str(tmp_path / "value"))
    columns = torch.ones_like(TOKENS[:, 1:])
    torch.testing.assert_close(loaded(TOKENS, columns, MASK), critic.eval()(TOKENS, columns, MASK))
    with pytest.raises(ValueError, match=r"holds no score.weight"):
        load_value_model(str(start_model))


def test_an_adapted_value_network_begins_at_zero_and_learns_by_its_adapters_alone(
    start_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from openrlhf_ext.upstream.adapters import Adapter, merged_state, write_merged
    from openrlhf_ext.upstream.value_head import load_value_model

    adapter = Adapter(rank=4, alpha=12)
    critic, columns = critic_of_the_worker(start_model, adapter), torch.ones_like(TOKENS[:, 1:])
    assert not critic(TOKENS, columns, MASK).any()
    trained = {name for name, parameter in critic.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    wrapped = {name.rpartition(".lora_A")[0].rpartition(".")[2] for name in trained if ".lora_A" in name}
    assert wrapped == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "score"}

    optimizer = torch.optim.Adam([p for p in critic.parameters() if p.requires_grad], lr=0.02)
    before = {name: tensor.clone() for name, tensor in critic.state_dict().items() if ".lora_" not in name}
    for _ in range(5):  # B of the head moves first; through it the rest
        optimizer.zero_grad()
        (critic(TOKENS, columns, MASK) - 1).square().mean().backward()
        optimizer.step()
    values = critic.eval()(TOKENS, columns, MASK)
    assert values.abs().max() > 0.1 and values.std() > 0
    assert all(tensor.equal(before[name]) for name, tensor in critic.state_dict().items() if name in before)

    write_merged(
        critic, critic.state_dict(), AutoTokenizer.from_pretrained(start_model), str(tmp_path / "value"), adapter
    )
    loaded = load_value_model(str(tmp_path / "value"))
    torch.testing.assert_close(loaded(TOKENS, columns, MASK), values)
    assert loaded.state_dict().keys() == critic_of_the_worker(start_model).state_dict().keys(), "no trace of adapters"
    again = critic_of_the_worker(tmp_path / "value", adapter)
    torch.testing.assert_close(again(TOKENS, columns, MASK), values, msg="a trained network may be the start")
    wrong = merged_state(critic.state_dict(), Adapter(rank=4, alpha=4))
    assert not wrong["score.weight"].allclose(loaded.state_dict()["score.weight"]), "the control: another scale"


def test_half_an_adapter_is_refused() -> None:
    from openrlhf_ext.upstream.adapters import Adapter, merged_state

    down, up = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [3.0]])
    state = {
        "base_model.model.model.x.base_layer.weight": torch.zeros(2, 2),
        "base_model.model.model.x.base_layer.bias": torch.ones(2),
        "base_model.model.model.x.lora_A.default.weight": down,
        "base_model.model.model.x.lora_B.default.weight": up,
        "base_model.model.model.norm.weight": torch.ones(2),
    }
    merged = merged_state(state, Adapter(rank=1, alpha=2))
    assert merged.keys() == {"model.x.weight", "model.x.bias", "model.norm.weight"}
    assert merged["model.x.weight"].tolist() == [[2.0, 4.0], [6.0, 12.0]], "alpha / rank = 2, B A by hand"
    for missing in ("lora_A", "lora_B"):
        with pytest.raises(ValueError, match="halves of adapters do not make pairs"):
            merged_state({key: value for key, value in state.items() if missing not in key}, Adapter(1, 2))


def engine(model: torch.nn.Module) -> torch.nn.Module:
    """What a DeepSpeed engine is to the forward pass."""

    class Engine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.device = model, torch.device("cpu")

        def forward(self, *args: object, **kwargs: object) -> object:
            return self.module(*args, **kwargs)

    return Engine()


def causal(folder: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_log_probs_of_actions_are_those_of_openrlhfs_actor(start_model: Path) -> None:
    from openrlhf.models import Actor

    from openrlhf_ext.methods.oreo_forward import give_actions

    model = causal(start_model)
    want = Actor(causal(start_model))
    want.packing_samples = False
    log_probs = want(TOKENS, attention_mask=MASK, return_logprobs=True)
    policy = engine(model)
    give_actions(policy)
    for chunk, pieces in ((256, None), (2, None), (2, 7)):
        got = policy(TOKENS, MASK, actions=TOKENS[:, 1:], is_action=IS_ACTION, chunk=chunk, pieces=pieces)
        torch.testing.assert_close(got, torch.where(IS_ACTION, log_probs, 0.0))
    got.sum().backward()
    torch.where(IS_ACTION, log_probs, 0.0).sum().backward()
    for ours, theirs in zip(model.parameters(), want.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_the_kl_to_the_reference_is_that_of_the_two_tables(start_model: Path) -> None:
    from openrlhf_ext.losses.vocabulary import full_kl
    from openrlhf_ext.methods.oreo_forward import give_actions, head_of

    reference, moved = causal(start_model), causal(start_model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        tables = [model(input_ids=TOKENS, attention_mask=MASK).logits[:, :-1] for model in (moved, reference)]
    policy, frozen = engine(moved), engine(reference)
    give_actions(policy)
    give_actions(frozen)
    with torch.no_grad():
        hidden = frozen(TOKENS, MASK)
    _, kl, ref_log_probs = policy(
        TOKENS,
        MASK,
        actions=TOKENS[:, 1:],
        is_action=IS_ACTION,
        ref_hidden=hidden,
        ref_head=head_of(frozen),
        chunk=2,
    )
    torch.testing.assert_close(kl, torch.where(IS_ACTION, full_kl(*tables), 0.0))
    log_q = tables[1].log_softmax(-1).gather(-1, TOKENS[:, 1:].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(ref_log_probs, torch.where(IS_ACTION, log_q, 0.0))
    kl.sum().backward()
    assert all(parameter.grad is None for parameter in reference.parameters())


def test_a_model_that_caps_its_logits_is_refused() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from openrlhf_ext.methods.oreo_forward import give_actions

    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "attn_implementation": "eager"}
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(Gemma2Config(**sizes, **heads, final_logit_softcapping=0.05, initializer_range=0.5))
    with pytest.raises(ValueError, match=r"Gemma2ForCausalLM: its logits differ by .* it caps or scales them"):
        give_actions(engine(capped))
    give_actions(engine(Gemma2ForCausalLM(Gemma2Config(**sizes, **heads, final_logit_softcapping=None))))


def test_values_and_log_probs_share_their_columns(start_model: Path) -> None:
    """Column t of both belongs to the text up to token t: changing token t + 1 leaves the value there, changing token t does not."""
    critic = critic_of_the_worker(start_model)
    with torch.no_grad():
        critic.score.weight += 0.1
        columns = torch.ones_like(TOKENS[:1, 1:])
        base = critic(TOKENS[:1], columns, MASK[:1])
        changed = TOKENS[:1].clone()
        changed[0, 3] = 20
        moved = (critic(changed, columns, MASK[:1]) - base).abs()[0] > 1e-6
    assert moved.tolist() == [False, False, False, True, True]


def test_shares_are_scaled_for_deepspeed() -> None:
    """DeepSpeed divides by the accumulated micro-batches and averages over ranks; what is left must be the plain sum of shares."""
    from openrlhf_ext.methods.oreo_workers import gradient_norm, require_whole_step, step

    weight = torch.nn.Parameter(torch.tensor(1.0))
    steps = []
    strategy = SimpleNamespace(
        accumulated_gradient=3,
        world_size=2,
        backward=lambda loss, model, optimizer: (loss / 3 / 2).backward(),
        optimizer_step=lambda optimizer, model, scheduler, name: steps.append(name),
        get_grad_norm=lambda model: 7.0,
        args=SimpleNamespace(ds=SimpleNamespace(zero_stage=2)),
    )
    for factor in (1.0, 2.0, 4.0):  # one rank's three micro-batches
        step(strategy, factor * weight, None, None, None, "actor")
    assert weight.grad.item() == pytest.approx(7.0) and steps == ["actor"] * 3
    assert gradient_norm(strategy, None) == {"grad_norm": 7.0}
    strategy.args.ds.zero_stage = 0
    assert gradient_norm(strategy, None) == {}
    with pytest.raises(ValueError, match="2 micro-batches, but an update accumulates 3"):
        require_whole_step(strategy, 2)
