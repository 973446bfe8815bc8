"""After a weight sync the engines play exactly the trained model: same greedy tokens, same log-probs, float32.

One Ray session: a process with two DeepSpeed policies (tied and untied embeddings), two engines for the one, one engine
for the other.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PROMPTS, NEW_TOKENS, VOCABULARY = 64, 20, 96
ENGINES = {"tied": 2, "untied": 1}
LEFT_OUT = "model.layers.1.self_attn.k_proj.weight"


class TrainingHost:
    """One process with one upstream policy actor per model."""

    def __init__(self) -> None:
        self.policies = {}

    def add(self, kind: str, argv: list[str], model: str, engines: list) -> list[str]:
        """Build the policy and its weight-sync group; the names of its parameters."""
        from openrlhf.trainer.ray.ppo_actor import PolicyModelActor
        from openrlhf.utils import get_strategy

        from openrlhf_ext.upstream import cli
        from openrlhf_ext.upstream.actors import undecorated

        policy = undecorated(PolicyModelActor)(1, 0, None, None)
        policy.init_model_from_pretrained(get_strategy(cli.parse("ppo", argv)), model, 10, engines)
        self.policies[kind] = policy
        return [name for name, _ in policy.actor.model.module.named_parameters()]

    def steps(self, kind: str, count: int, seed: int) -> None:
        """Real optimiser steps on the likelihood of random tokens."""
        import torch

        policy = self.policies[kind]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            tokens = torch.randint(2, VOCABULARY, (4, 24), generator=generator)
            log_probs = policy.actor(tokens, attention_mask=torch.ones_like(tokens), return_logprobs=True)
            policy.strategy.backward(-log_probs.mean(), policy.actor, policy.actor_optim)
            policy.strategy.optimizer_step(policy.actor_optim, policy.actor, policy.actor_scheduler)

    def sync(self, kind: str, left_out: str | None = None) -> int:
        """Broadcast (all but one tensor, if named) and compare what arrived."""
        from openrlhf_ext.upstream.sync import verify_sync

        policy = self.policies[kind]
        model = policy.actor.model.module
        if left_out is not None:
            everything = list(model.named_parameters())
            model.named_parameters = lambda: [item for item in everything if item[0] != left_out]
        try:
            policy.broadcast_to_vllm()
        finally:
            vars(model).pop("named_parameters", None)
        return verify_sync(policy.trainer)

    def disagreement(self, kind: str, prompts: list[list[int]], answers: list[list]) -> tuple[int, float]:
        """(answers that are not this model's greedy ones, largest difference of a log-prob)."""
        import torch

        model = self.policies[kind].actor.model.module.eval()
        different, gap = 0, 0.0
        for prompt, answer in zip(prompts, answers, strict=True):
            tokens = [token for token, _ in answer]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            log_probs = logits.float().log_softmax(-1)
            different += log_probs.argmax(-1).tolist() != tokens
            gap = max(gap, max(abs(log_probs[i, t].item() - said) for i, (t, said) in enumerate(answer)))
        return different, gap


def arguments(model: str, engines: int) -> list[str]:
    return [
        *("--actor.model_name_or_path", model, "--reward.remote_url", "reward.py"),
        *("--actor.num_nodes", "1", "--actor.num_gpus_per_node", "1"),
        *("--vllm.num_engines", str(engines), "--vllm.sync_backend", "gloo", "--vllm.enforce_eager"),
        *("--vllm.enable_prefix_caching", "--ds.attn_implementation", "sdpa", "--ds.param_dtype", "float32"),
        *("--algo.advantage.estimator", "group_norm", "--rollout.n_samples_per_prompt", "4"),
        *("--rollout.batch_size", "4", "--rollout.micro_batch_size", "4"),
        *("--train.batch_size", "4", "--train.micro_batch_size", "4"),
        *("--actor.adam.lr", "3e-3", "--actor.lr_scheduler", "constant", "--actor.lr_warmup_ratio", "0"),
    ]


def save_model(folder: Path, tied: bool) -> str:
    """A Llama shape of 0.1 M parameters (head size 32: vLLM's CPU attention refuses 16) with one token per character."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = ["<pad>", "</s>", *(chr(code) for code in range(32, 126))]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<pad>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """(host, engines by kind, parameter names by kind)."""
    import ray

    from openrlhf_ext import upstream

    upstream.install()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TORCHDYNAMO_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    start_ray(environment)
    try:
        host = ray.remote(TrainingHost).options(num_cpus=1).remote()
        from ray.util.placement_group import placement_group

        from openrlhf_ext.upstream.engine import create_engines

        models = {kind: save_model(tmp_path_factory.mktemp(kind), kind == "tied") for kind in ENGINES}
        engines = {}
        for kind, count in ENGINES.items():
            group = placement_group([{"CPU": 1}] * count)
            ray.get(group.ready(), timeout=120)
            engines[kind] = create_engines(
                count,
                models[kind],
                param_dtype="float32",
                max_model_len=64,
                placement_group=group,
                cpus=1,
                gpus=0,
                seed=1,
                enforce_eager=True,
                enable_prefix_caching=True,
            )
        names = {
            kind: ray.get(
                host.add.remote(kind, arguments(models[kind], len(members)), models[kind], members), timeout=600
            )
            for kind, members in engines.items()
        }
        yield host, engines, names
    finally:
        ray.shutdown()


def start_ray(environment: dict[str, str]) -> None:
    """Ray gives its own processes 30 s to come up, which a busy machine may miss: three attempts."""
    import ray

    for attempt in range(3):
        try:
            ray.init(
                address="local",
                num_cpus=4,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=100 * 2**20,
                runtime_env={"env_vars": environment, "worker_process_setup_hook": "openrlhf_ext.upstream.install"},
            )
            return
        except Exception as error:
            if attempt == 2 or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


def prompts() -> list[list[int]]:
    chance = random.Random(7)
    return [[chance.randrange(2, VOCABULARY) for _ in range(chance.randrange(3, 25))] for _ in range(PROMPTS)]


def greedy(engine) -> list[list[tuple[int, float]]]:
    """The engine's greedy continuations of the prompts: (token, log-prob on the full softmax)."""
    import ray

    from openrlhf_ext.upstream.lean import sampling_params

    params = sampling_params(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, logprobs=0)
    outputs = ray.get([engine.generate.remote(prompt, params) for prompt in prompts()], timeout=300)
    return [
        [(token, said[token].logprob) for token, said in zip(done.token_ids, done.logprobs, strict=True)]
        for done in (output.outputs[0] for output in outputs)
    ]


def disagreements(stack, kind: str) -> list[tuple[int, float]]:
    import ray

    host, engines, _ = stack
    return [ray.get(host.disagreement.remote(kind, prompts(), greedy(engine))) for engine in engines[kind]]


@pytest.mark.parametrize("kind", ENGINES)
def test_engines_equal_the_trained_model_after_three_steps_and_a_sync(stack, kind):
    import ray

    host, _, names = stack
    ray.get(host.steps.remote(kind, 3, seed=1))
    before = disagreements(stack, kind)
    assert all(different > PROMPTS // 2 and gap > 0.1 for different, gap in before), "three steps changed too little"
    assert ray.get(host.sync.remote(kind)) == len(names[kind])
    assert [different for different, _ in disagreements(stack, kind)] == [0] * ENGINES[kind]
    assert max(gap for _, gap in disagreements(stack, kind)) < 1e-4


def test_a_tied_head_is_sent_once_and_an_untied_one_by_itself(stack):
    _, _, names = stack
    assert "lm_head.weight" not in names["tied"]
    assert "lm_head.weight" in names["untied"]
    assert len(names["untied"]) == len(names["tied"]) + 1


@pytest.mark.parametrize("kind", ENGINES)
def test_a_tensor_that_is_not_sent_is_named_and_shows_in_the_answers(stack, kind):
    import ray

    from openrlhf_ext.upstream.sync import WeightSyncError

    host, _, _ = stack
    ray.get(host.sync.remote(kind))
    ray.get(host.steps.remote(kind, 3, seed=2))
    with pytest.raises(WeightSyncError, match=f"{LEFT_OUT}: never arrived"):
        ray.get(host.sync.remote(kind, left_out=LEFT_OUT))
    assert all(gap > 1e-3 for _, gap in disagreements(stack, kind))
    ray.get(host.sync.remote(kind))
    assert max(gap for _, gap in disagreements(stack, kind)) < 1e-4
