"""Batch arithmetic: sizes that do not divide make OpenRLHF drop samples, mix optimizer windows, or hang a rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from openrlhf_ext.config.batch_fix import batch_fix, divisors, nearest, reference_fix
from openrlhf_ext.config.check_range import has_positive_sizes
from openrlhf_ext.config.problem import Problem

if TYPE_CHECKING:
    from openrlhf_ext.config.load import Resolved


def batch_problems(resolved: Resolved) -> list[Problem]:
    """All arithmetic problems; nothing where a size itself is not positive (``check_range`` reports that)."""
    if not has_positive_sizes(resolved):
        return []
    if resolved.program != "ppo":
        return list(
            _update(resolved, resolved.whole("run.nodes") * resolved.whole("run.ranks_per_node"), "run.ranks_per_node")
        )
    return list(_offline(resolved) if resolved.offline else _rollout(resolved))


def _offline(resolved: Resolved) -> Iterator[Problem]:
    """Both networks learn from the same trajectories, each over its own ranks."""
    actor, critic = (
        resolved.whole(f"{name}.num_nodes") * resolved.whole(f"{name}.num_gpus_per_node")
        for name in ("actor", "critic")
    )
    yield from _update(resolved, actor, "actor.num_gpus_per_node")
    if critic != actor:
        yield from _of_critic(resolved, critic, _update(resolved, critic, "critic.num_gpus_per_node"))


def _rollout(resolved: Resolved) -> Iterator[Problem]:
    ranks = resolved.whole("actor.num_nodes") * resolved.whole("actor.num_gpus_per_node")
    prompts, samples = resolved.whole("rollout.batch_size"), resolved.whole("rollout.n_samples_per_prompt")
    per_step, train_batch, forward = (
        prompts * samples,
        resolved.whole("train.batch_size"),
        resolved.whole("rollout.micro_batch_size"),
    )
    yield from _update(resolved, ranks, "actor.num_gpus_per_node", per_step)
    if per_step % train_batch:
        what = (
            f"{per_step} samples per step (rollout.batch_size {prompts} x rollout.n_samples_per_prompt {samples}) are not "
            f"a multiple of {train_batch}: gradients of one step would run over into the next"
        )
        replica = resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")
        fix = batch_fix(resolved, max(1, ranks // replica), per_step)
        yield Problem(resolved.where("train.batch_size"), what, fix)
    if not resolved.flag("train.dynamic_batch_enable"):
        yield from _forward(resolved, per_step, forward, ranks)
    if resolved.number("algo.kl.init_coef") > 0:
        yield from _reference(resolved, per_step, forward)
    if resolved.has_critic:
        yield from _critic(resolved, per_step, forward)

    generate = resolved.whole("rollout.vllm_generate_batch_size")
    if generate != prompts:
        what = f"{generate} prompts per engine call, but a step trains on rollout.batch_size {prompts}"
        yield Problem(resolved.where("rollout.vllm_generate_batch_size"), what, "leave it out")


def _update(resolved: Resolved, ranks: int, ranks_key: str, per_step: int | None = None) -> Iterator[Problem]:
    """DeepSpeed's identity: batch = micro-batch x accumulation x data-parallel ranks.

    ``per_step``: samples of a rollout step, which the batch must divide as well.
    """
    replica = resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")
    if ranks % replica:
        what = f"{ranks} ranks do not divide into replicas of {replica} (ring attention x tensor parallel)"
        yield Problem(resolved.where(ranks_key), what, f"a multiple of {replica} ranks")
        return
    if resolved.flag("train.dynamic_batch_enable"):
        return
    batch, micro, parallel = (
        resolved.whole("train.batch_size"),
        resolved.whole("train.micro_batch_size"),
        ranks // replica,
    )
    if batch % (micro * parallel):
        unit = micro * parallel
        what = f"{batch} is not a multiple of {unit} (train.micro_batch_size {micro} x {parallel} data-parallel ranks)"
        fix = f"{batch_fix(resolved, parallel, per_step)}; or another train.micro_batch_size or number of ranks"
        yield Problem(resolved.where("train.batch_size"), what, fix)


def _forward(resolved: Resolved, per_step: int, forward: int, ranks: int) -> Iterator[Problem]:
    """Every rank must get the same number of samples, or one waits in a collective for ever."""
    parallel = max(1, ranks // (resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")))
    if per_step % (forward * parallel):
        what = (
            f"{per_step} samples per step are not a multiple of {forward * parallel} (rollout.micro_batch_size {forward} x "
            f"{parallel} data-parallel ranks): ranks would train on unequal numbers of samples"
        )
        if per_step % parallel:
            fix = f"a number of ranks that divides {per_step}"
        else:
            sizes = nearest(divisors(per_step // parallel), forward)
            fix = f"--rollout.micro_batch_size {' or '.join(map(str, sizes))}"
        yield Problem(resolved.where("rollout.micro_batch_size"), what, fix)


def _critic(resolved: Resolved, per_step: int, forward: int) -> Iterator[Problem]:
    """The critic trains on the same samples as the policy, so its ranks must divide them too."""
    ranks = resolved.whole("critic.num_nodes") * resolved.whole("critic.num_gpus_per_node")
    if ranks == resolved.whole("actor.num_nodes") * resolved.whole("actor.num_gpus_per_node"):
        return  # then what holds for the policy holds for it
    found = [*_update(resolved, ranks, "critic.num_gpus_per_node"), *_forward(resolved, per_step, forward, ranks)]
    yield from _of_critic(resolved, ranks, found[:1])


def _of_critic(resolved: Resolved, ranks: int, found: Iterable[Problem]) -> Iterator[Problem]:
    """Problems of batch sizes that only the critic's number of ranks makes."""
    for problem in found:
        what = f"{ranks} critic ranks: {problem.what}"
        yield Problem(resolved.where("critic.num_gpus_per_node"), what, "leave critic.num_gpus_per_node out")


def _reference(resolved: Resolved, per_step: int, forward: int) -> Iterator[Problem]:
    replica = resolved.whole("ds.ring_attn_size") * resolved.whole("ds.tensor_parallel_size")
    ranks = resolved.whole("ref.num_nodes") * resolved.whole("ref.num_gpus_per_node")
    if ranks % replica:
        what = f"{ranks} ranks do not divide into replicas of {replica}"
        yield Problem(resolved.where("ref.num_gpus_per_node"), what, f"a multiple of {replica} ranks")
        return
    parallel = ranks // replica
    batch, micro = resolved.whole("train.batch_size"), resolved.whole("train.micro_batch_size")
    fix = reference_fix(resolved, per_step, forward)
    # A batch that its micro-batches do not fill is no matter of the reference: _update names the size that is wrong.
    if batch % micro == 0 and batch % (micro * parallel) and not resolved.flag("train.dynamic_batch_enable"):
        what = (
            f"{parallel} reference ranks: DeepSpeed checks train.batch_size {batch} = train.micro_batch_size {micro} x "
            f"accumulation x ranks for the reference too"
        )
        yield Problem(resolved.where("ref.num_gpus_per_node"), what, fix)
    batches = -(-per_step // forward)
    if resolved.whole("ds.zero_stage") == 3 and batches % parallel:
        what = f"{batches} micro-batches over {parallel} ranks of a ZeRO-3 reference: one rank would wait for ever"
        yield Problem(resolved.where("ref.num_gpus_per_node"), what, fix)
    elif batches < parallel:
        what = f"{batches} micro-batches are fewer than {parallel} reference ranks"
        yield Problem(resolved.where("ref.num_gpus_per_node"), what, f"{fix}, or a smaller rollout.micro_batch_size")
