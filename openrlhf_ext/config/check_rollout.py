"""Rules of methods with a rollout: what OpenRLHF's PPO program would accept and then do something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os.path import abspath
from typing import TYPE_CHECKING

from openrlhf_ext.config.check_rllr import SCORED_BY_MODELS, rllr_problems
from openrlhf_ext.config.knobs import knobs
from openrlhf_ext.config.presets import METHOD_DEFAULTS
from openrlhf_ext.config.problem import Problem

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved

ESTIMATORS = {"grpo": ("group_norm",), "reverse-curriculum": ("gae",), "rllr": ("gae",)}
"""Method -> the values of ``algo.advantage.estimator`` that its experience maker implements."""

_NO_EFFECT: tuple[tuple[str, str], ...] = (
    ("critic.save_value_network", "checkpoints hold the critic, the final model is the policy"),
    ("algo.advantage.no_std_norm", "the method's own normalisation has no such switch"),
    ("reward.model_name_or_path", "rewards come from the task"),
    ("reward.num_", "rewards come from the task"),
    ("reward.normalize_enable", "rewards come from the task"),
    ("reward.offload", "rewards come from the task"),
    ("train.colocate_critic_reward", "this method has neither"),
    ("train.async_queue_size", "generation and training take turns"),
    ("ckpt.save_hf", "the final model is saved in Hugging Face form"),
    ("ckpt.max_mem", "ckpt.max_num alone limits the checkpoints"),
    ("ckpt.best_metric_key", "checkpoints are kept by age"),
    ("data.dataloader_num_workers", "prompts are in memory"),
)
"""Key prefix -> why nothing reads it here."""

_NO_EFFECT_WITHOUT_CRITIC: tuple[tuple[str, str], ...] = (
    ("critic.", "this method has no critic"),
    ("algo.advantage.lambd", "group advantages are constant over an answer"),
)


def rollout_problems(resolved: Resolved) -> Iterator[Problem]:
    """All problems of a rollout method's values."""
    rules = (
        _refused,
        _sampling,
        _advantage,
        _kl,
        _correction,
        _penalties,
        _topology,
        _curriculum,
        rllr_problems,
        _evaluation,
        _no_effect,
    )
    for rule in rules:
        yield from rule(resolved)


def _refused(resolved: Resolved) -> Iterator[Problem]:
    get, where = resolved.get, resolved.where
    if resolved.flag("train.async_enable") or resolved.flag("train.partial_rollout_enable"):
        key = "train.async_enable" if resolved.flag("train.async_enable") else "train.partial_rollout_enable"
        yield Problem(where(key), "our trainer has no asynchronous mode", f"leave {key} out")
    if get("train.agent_func_path"):
        what = "an agent file would bypass the task and its rewards"
        yield Problem(where("train.agent_func_path"), what, "set task.name")
    if resolved.whole("ds.lora.rank") > 0:
        what = "LoRA weights cannot be synced to vLLM: OpenRLHF 0.11.2 would send them under names the engine does not know"
        yield Problem(
            where("ds.lora.rank"), what, "--ds.lora.rank 0; LoRA works for sft, followed by openrlhf-ext merge"
        )
    if resolved.flag("ds.load_in_4bit"):
        yield Problem(where("ds.load_in_4bit"), "4-bit weights cannot be synced to vLLM", "leave it out")
    if resolved.precision == "fp16":
        what = "engines run in bf16 or float32 and the sync needs equal types"
        yield Problem(where("run.precision"), what, "--run.precision bf16")
    if resolved.whole("data.max_images_per_prompt") > 0:
        yield Problem(where("data.max_images_per_prompt"), "tasks here are text only", "leave it out")
    if not resolved.text("data.label_key"):
        yield Problem(where("data.label_key"), "null: the task would get no labels", "--data.label_key label")


def _sampling(resolved: Resolved) -> Iterator[Problem]:
    where = resolved.where
    max_len, new = resolved.whole("data.max_len"), resolved.whole_or_none("rollout.max_new_tokens")
    if new is None:
        what = f"null: each answer may be as long as data.max_len {max_len} minus its prompt"
        yield Problem("rollout.max_new_tokens", what, "", note=True)
    elif new >= max_len:
        what = f"{new} leaves no room for a prompt in data.max_len {max_len} (prompt and answer together)"
        yield Problem(where("rollout.max_new_tokens"), what, f"--data.max_len {new} + the longest prompt")
    final = resolved.number_or_none("grpo.final_temperature")  # None for methods without the key
    if final is not None and final == resolved.number("rollout.temperature"):
        what = f"equals rollout.temperature {final}: the temperature stays constant"
        yield Problem(where("grpo.final_temperature"), what, "", note=True)
    if resolved.flag("algo.dynamic_filtering_enable"):
        low, high = resolved.numbers("algo.dynamic_filtering_range")
        if low >= high:
            yield Problem(where("algo.dynamic_filtering_range"), f"{low:g} is not below {high:g}", "LOW,HIGH, e.g. 0,1")


def _advantage(resolved: Resolved) -> Iterator[Problem]:
    where = resolved.where
    estimator, allowed = resolved.text("algo.advantage.estimator"), ESTIMATORS[resolved.method]
    if estimator not in allowed:
        what = f"{resolved.method} makes its advantages by {' or '.join(allowed)}, not by {estimator}"
        yield Problem(where("algo.advantage.estimator"), what, f"--algo.advantage.estimator {' or '.join(allowed)}")
    if not resolved.has_critic:
        yield from _group_advantage(resolved)
    low, high = resolved.numbers("reward.clip_range")
    if low >= high:
        yield Problem(where("reward.clip_range"), f"{low:g} is not below {high:g}", "LOW,HIGH, e.g. -10,10")
    band, clip = resolved.numbers("actor.eps_clip_low_high"), resolved.number("actor.eps_clip")
    if band and resolved.explicit("actor.eps_clip") and band != [clip, clip]:
        what = f"{band} overrides actor.eps_clip {clip:g} ({resolved.origins['actor.eps_clip']})"
        yield Problem(where("actor.eps_clip_low_high"), what, "keep one of the two")


def _group_advantage(resolved: Resolved) -> Iterator[Problem]:
    """Where an answer is judged against the other answers to its prompt."""
    where = resolved.where
    if resolved.whole("rollout.n_samples_per_prompt") == 1:
        what = "1: a group needs at least 2 answers per prompt, with one every advantage is 0"
        yield Problem(where("rollout.n_samples_per_prompt"), what, "--rollout.n_samples_per_prompt 8")
    gamma = resolved.number("algo.advantage.gamma")
    if gamma != 1:
        what = f"{gamma:g}: the advantage of a group is constant over an answer's tokens"
        yield Problem(where("algo.advantage.gamma"), what, "leave it out")
    if resolved.flag("algo.advantage.no_std_norm"):
        yield Problem(where("algo.advantage.no_std_norm"), "group normalisation ignores it", "leave it out")
    frozen = resolved.whole("critic.freezing_steps")
    if frozen > -1:
        what = f"{frozen}: without a critic the policy would be frozen for that many steps"
        yield Problem(where("critic.freezing_steps"), what, "leave it out")


def _kl(resolved: Resolved) -> Iterator[Problem]:
    get, where = resolved.get, resolved.where
    if get("algo.kl.target") and resolved.flag("algo.kl.use_loss"):
        what = "the adaptive controller steers a KL in the reward; here KL is a loss"
        yield Problem(where("algo.kl.target"), what, "leave it out, or --algo.kl.use_loss false --algo.kl.estimator k1")
    if resolved.number("algo.kl.init_coef") == 0:
        return
    estimator = resolved.text("algo.kl.estimator")
    if resolved.flag("algo.kl.use_loss") and estimator == "k1" and not resolved.flag("algo.kl.unbiased_gradient"):
        what = "k1 as a loss has zero expected gradient on-policy: it does not pull towards the reference"
        yield Problem("algo.kl.estimator", what, "k3, unless you reproduce the published code", note=True)
    if not resolved.flag("algo.kl.use_loss") and estimator != "k1":
        what = f"{estimator} in the reward is a biased penalty; OpenRLHF recommends k1 there"
        yield Problem("algo.kl.estimator", what, "--algo.kl.estimator k1", note=True)


def _correction(resolved: Resolved) -> Iterator[Problem]:
    """Importance correction between engine and trainer."""
    where = resolved.where
    level = resolved.text("algo.advantage.is_correction_level")
    if level == "off":
        return
    key = "algo.advantage.is_correction_level"
    if resolved.number("rollout.top_p") < 1:
        what = f"engine log-probs are renormalised over the nucleus at rollout.top_p {resolved.number('rollout.top_p'):g}, so the ratio is wrong"
        yield Problem(where(key), what, f"--rollout.top_p 1 or --{key} off")
    mode, gating = (
        resolved.text("algo.advantage.is_correction_mode"),
        resolved.text("algo.advantage.is_correction_gating"),
    )
    if mode == "clip" and (level, gating) != ("token", "ratio"):
        what = f"clip needs level token and gating ratio, got {level} and {gating}"
        yield Problem(where("algo.advantage.is_correction_mode"), what, "--algo.advantage.is_correction_mode mask")
    threshold = resolved.numbers("algo.advantage.is_correction_threshold")
    if len(threshold) > 2:
        what = f"{threshold} has more than two bounds"
        yield Problem(where("algo.advantage.is_correction_threshold"), what, "HIGH or LOW,HIGH")
    elif gating != "ratio" and len(threshold) == 2 and threshold[0] > 0:
        what = f"{gating} is bounded from above only, got {threshold}"
        yield Problem(where("algo.advantage.is_correction_threshold"), what, "one number")


def _penalties(resolved: Resolved) -> Iterator[Problem]:
    buffer = resolved.number_or_none("reward.overlong_buffer_len")
    room = resolved.whole_or_none("rollout.max_new_tokens") or resolved.whole("data.max_len")
    if buffer is not None and not 0 < buffer <= room:
        what = f"{buffer:g} is not between 1 and the {room} new tokens"
        yield Problem(resolved.where("reward.overlong_buffer_len"), what, f"at most {room}")


def _topology(resolved: Resolved) -> Iterator[Problem]:
    where = resolved.where
    names = ("actor", "ref", "critic")
    size = {n: (resolved.whole(f"{n}.num_nodes"), resolved.whole(f"{n}.num_gpus_per_node")) for n in names}
    share_all = resolved.flag("train.colocate_all")
    if (
        (share_all or resolved.flag("train.colocate_actor_ref"))
        and resolved.number("algo.kl.init_coef") > 0
        and size["actor"] != size["ref"]
    ):
        what = f"policy ({_times(size['actor'])}) and reference ({_times(size['ref'])}) share GPUs, so they must have equal sizes"
        yield Problem(where("ref.num_gpus_per_node"), what, "leave ref.num_nodes and ref.num_gpus_per_node out")
    if resolved.has_critic and share_all and size["actor"] != size["critic"]:
        what = f"policy ({_times(size['actor'])}) and critic ({_times(size['critic'])}) share GPUs, so they must have equal sizes"
        yield Problem(
            where("critic.num_gpus_per_node"), what, "leave critic.num_nodes and critic.num_gpus_per_node out"
        )
    if resolved.device == "cpu":
        return
    for key in ("vllm.enable_sleep", "ds.enable_sleep"):
        if resolved.flag(key):
            what = "our trainer generates, syncs and saves with engines and states awake"
            yield Problem(where(key), what, f"leave {key} out; share GPUs with a lower vllm.gpu_memory_utilization")
    if resolved.text("vllm.sync_backend") not in ("nccl", "gloo"):
        yield Problem(where("vllm.sync_backend"), f"{resolved.text('vllm.sync_backend')!r} is not a backend", "nccl")
    ranks = size["actor"][0] * size["actor"][1]
    engines = resolved.whole("vllm.num_engines") * resolved.whole("vllm.tensor_parallel_size")
    if share_all and ranks != engines:
        what = f"{ranks} policy ranks share their GPUs with {engines} engine GPUs (vllm.num_engines x tensor parallel)"
        yield Problem(where("vllm.num_engines"), what, f"engines that span exactly {ranks} GPUs")
    used = resolved.number("vllm.gpu_memory_utilization")
    if share_all and used > 0.7:
        what = f"each engine takes {used:.0%} of a GPU that policy and reference need too"
        yield Problem(where("vllm.gpu_memory_utilization"), what, "--vllm.gpu_memory_utilization 0.4")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _curriculum(resolved: Resolved) -> Iterator[Problem]:
    """Rules of the reverse curriculum; nothing for other methods."""
    mode, where = resolved.get("reverse_curriculum.mode"), resolved.where
    budgets = resolved.numbers("reverse_curriculum.budgets")
    if budgets and mode != "staged":
        yield Problem(where("reverse_curriculum.budgets"), f"has no effect in mode {mode}", "leave it out", note=True)
    elif budgets and (min(budgets) < 0 or not any(budgets)):
        what = f"{[int(b) for b in budgets]}: a number of start states, 0 or more, for each stage"
        yield Problem(where("reverse_curriculum.budgets"), what, "N0,N1,... with stage 0, the bare question, first")
    for leaf in ("adaptive_floor", "adaptive_memory"):
        key = f"reverse_curriculum.{leaf}"
        if mode != "adaptive" and resolved.explicit(key):
            yield Problem(where(key), f"has no effect in mode {mode}", "leave it out", note=True)


def _evaluation(resolved: Resolved) -> Iterator[Problem]:
    get, where = resolved.get, resolved.where
    if not get("eval.dataset"):
        if resolved.whole("eval.steps") > 0:
            yield Problem(where("eval.steps"), "set, but there is no eval.dataset", "--eval.dataset FILE")
        for key in ("evaluation.keep_best", "evaluation.test_dataset"):
            if get(key):
                yield Problem(where(key), "set, but there is no eval.dataset", "--eval.dataset FILE with a dev split")
        return
    chooses, logged = (resolved.text(key) for key in ("eval.dataset", "evaluation.test_dataset"))
    if logged and abspath(logged) == abspath(chooses):
        what = "is eval.dataset itself: what chooses the best model must not be the test set"
        yield Problem(where("evaluation.test_dataset"), what, "a file of its own")
    if resolved.flag("evaluation.keep_best") and resolved.whole("eval.steps") < 1:
        what = "only the last step would be compared with the start"
        yield Problem(where("evaluation.keep_best"), what, "--eval.steps N", note=True)
    if not resolved.whole("evaluation.sample_rows"):
        return
    samples = resolved.whole("eval.n_samples_per_prompt")
    if resolved.number("eval.temperature") == 0 or samples == 1:
        what = f"{samples} answers at eval.temperature {resolved.number('eval.temperature'):g}: pass@{samples} would say no more than greedy does"
        yield Problem(where("evaluation.sample_rows"), what, "--eval.n_samples_per_prompt 8 --eval.temperature 1")


def _no_effect(resolved: Resolved) -> Iterator[Problem]:
    rules = [rule for rule in _NO_EFFECT if resolved.method != "rllr" or rule[0] not in SCORED_BY_MODELS]
    if not resolved.flag("train.dynamic_batch_enable"):
        rules += [(f"{part}.max_tokens_per_gpu", "train.dynamic_batch_enable is off") for part in ("rollout", "train")]
    if not resolved.get("algo.kl.target") and resolved.method != "rllr":
        rules.append(("algo.kl.horizon", "algo.kl.target is not set"))
    if not resolved.number("algo.kl.init_coef"):
        rules.append(("ref.", "algo.kl.init_coef is 0, so there is no reference"))
    if not resolved.has_critic:
        rules += _NO_EFFECT_WITHOUT_CRITIC
    if resolved.device == "cpu":
        rules.append(("vllm.gpu_memory_utilization", "on CPU the cache is run.kv_cache_gib"))
    if resolved.text("actor.optim") == "adam":
        rules.append(("actor.muon.", "actor.optim is adam"))
    yield from without_effect(resolved, rules)


def without_effect(resolved: Resolved, rules: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Notes on keys that the user set to another value than the default and that nothing reads; ``rules``: (key prefix, why)."""
    table, method = knobs(resolved.method), METHOD_DEFAULTS[resolved.method]
    for key in resolved.origins:
        why = next((why for prefix, why in rules if key.startswith(prefix)), None)
        if (
            why
            and key in table
            and key != "critic.freezing_steps"
            and resolved.get(key) != method.get(key, table[key].default)
        ):
            yield Problem(resolved.where(key), f"has no effect: {why}", "leave it out", note=True)
