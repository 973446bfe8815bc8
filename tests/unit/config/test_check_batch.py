"""Batch arithmetic: every accepted combination divides, and the suggested fix is accepted."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openrlhf_ext.config.check import check, errors
from openrlhf_ext.config.check_batch import batch_problems
from openrlhf_ext.config.load import load


def sizes(prompts=8, samples=4, forward=8, batch=32, micro=8, ranks=1, ref=None, **more) -> dict[str, str]:
    values = {
        "rollout.batch_size": prompts,
        "rollout.n_samples_per_prompt": samples,
        "rollout.micro_batch_size": forward,
        "train.batch_size": batch,
        "train.micro_batch_size": micro,
        "actor.num_gpus_per_node": ranks,
        "ref.num_gpus_per_node": ref or ranks,
    }
    return {key: str(value) for key, value in values.items()} | more


def found(changes: dict[str, str], device: str = "cpu"):
    return batch_problems(load("grpo", None, list(changes.items()), local_device=device))


def keys(problems) -> list[str]:
    return [problem.where.split(" (")[0] for problem in problems]


@pytest.mark.parametrize(
    "changes",
    [
        sizes(),
        sizes(prompts=12, samples=8, forward=4, batch=96, micro=4),  # the report's run
        sizes(prompts=12, samples=8, forward=4, batch=96, micro=4, ranks=8),
        sizes(prompts=12, samples=10, forward=5, batch=120, micro=5),  # the code's defaults
        sizes(batch=16),  # two updates per step
        sizes(ranks=2, ref=1),
        sizes(ranks=1, ref=2),
    ],
)
def test_sizes_that_divide(changes):
    assert found(changes) == []


@pytest.mark.parametrize(
    ("changes", "key", "number"),
    [
        (sizes(batch=24), "train.batch_size", "32 samples per step"),
        (sizes(batch=64), "train.batch_size", "32 samples per step"),
        (sizes(micro=5), "train.batch_size", "multiple of 5"),
        (sizes(ranks=8, micro=8, forward=4), "train.batch_size", "multiple of 64"),
        (sizes(forward=7), "rollout.micro_batch_size", "multiple of 7"),
        (
            sizes(prompts=9, samples=4, forward=4, batch=36, micro=9, ranks=4),
            "rollout.micro_batch_size",
            "multiple of 16",
        ),
        (sizes(ref=3), "ref.num_gpus_per_node", "3 reference ranks"),
        (sizes(**{"rollout.vllm_generate_batch_size": "4"}), "rollout.vllm_generate_batch_size", "4 prompts"),
        (sizes(ranks=3, **{"ds.ring_attn_size": "2"}), "actor.num_gpus_per_node", "3 ranks"),
        (sizes(forward=16, batch=32, micro=4, ref=4), "ref.num_gpus_per_node", "2 micro-batches"),
        (sizes(forward=8, micro=2, ref=8, **{"ds.zero_stage": "3"}), "ref.num_gpus_per_node", "4 micro-batches"),
    ],
)
def test_sizes_that_do_not(changes, key, number):
    problems = found(changes)
    assert key in keys(problems)
    assert any(number in problem.what for problem in problems)


def test_tensor_parallel_ranks_count_once():
    assert found(sizes(ranks=2, **{"ds.tensor_parallel_size": "2"}), "cuda") == []
    # two data-parallel ranks would need 64
    assert keys(found(sizes(batch=8, micro=8, prompts=2, samples=4, ranks=2), "cuda")) == [
        "train.batch_size",
        "rollout.micro_batch_size",
        "ref.num_gpus_per_node",
        "ref.num_gpus_per_node",
    ]


def test_dynamic_batches_have_no_micro_batches():
    assert found(sizes(micro=5, forward=7, **{"train.dynamic_batch_enable": "true"}), "cuda") == []


def test_no_reference_no_rule():
    assert keys(found(sizes(ref=3))) == ["ref.num_gpus_per_node"]
    assert found(sizes(ref=3, **{"algo.kl.init_coef": "0"})) == []


def test_sft_ranks(sft):
    assert errors(check(sft({"run.ranks_per_node": "2"}))) == []
    problems = errors(check(sft({"run.ranks_per_node": "3"})))
    assert keys(problems) == ["train.batch_size"]
    assert "multiple of 24" in problems[0].what


SMALL = st.integers(min_value=1, max_value=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=SMALL, samples=SMALL, forward=SMALL, batch=st.integers(1, 48), micro=SMALL, ranks=st.integers(1, 4))
def test_whatever_is_accepted_gives_every_rank_the_same_work(prompts, samples, forward, batch, micro, ranks):
    if found(sizes(prompts, samples, forward, batch, micro, ranks)):
        return
    total = prompts * samples
    # A loop over what OpenRLHF does: split into forward batches, deal them out in contiguous chunks.
    batches = [range(i, min(i + forward, total)) for i in range(0, total, forward)]
    chunk = -(-len(batches) // ranks)
    held = [sum(len(b) for b in batches[r * chunk : (r + 1) * chunk]) for r in range(ranks)]
    assert len(set(held)) == 1
    accumulation = batch // micro // ranks
    assert accumulation >= 1
    assert held[0] % (micro * accumulation) == 0  # whole optimizer windows, nothing dropped
    assert sum(held) == total


@settings(max_examples=40)
@given(prompts=SMALL, samples=SMALL, batch=st.integers(1, 48))
def test_the_suggested_batch_size_is_accepted(prompts, samples, batch):
    problems = [p for p in found(sizes(prompts, samples, 1, batch, 1)) if "samples per step" in p.what]
    for problem in problems:
        suggested = int(problem.fix.split()[1])
        assert not [p for p in found(sizes(prompts, samples, 1, suggested, 1)) if "samples per step" in p.what]


def first_numbers(fix: str) -> dict[str, str]:
    """The first value of each key that a fix names: `--a 4 or 8; or another b` -> {"a": "4"}."""
    return dict(re.findall(r"--([\w.]+) (\d+)", fix))


def test_a_batch_that_no_micro_batch_fits_is_no_matter_of_the_reference():
    # The demo's sizes: 16 x 8 = 128 samples per step, micro-batches of 64.
    demo = sizes(prompts=16, samples=8, forward=64, batch=7, micro=64)
    problems = found(demo)
    assert keys(problems) == ["train.batch_size", "train.batch_size"]
    assert problems[0].fix == "--train.batch_size 64; or another train.micro_batch_size or number of ranks"
    assert problems[1].fix == "--train.batch_size 64"


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        (sizes(batch=24), "--train.batch_size 16 or 32"),  # 8, 16 and 32 divide 32 and hold whole micro-batches
        (sizes(prompts=9, samples=4, micro=4, batch=16, forward=4), "--train.batch_size 12 or 36"),
        (sizes(prompts=9, samples=4, micro=8, batch=16, forward=4), "--train.micro_batch_size 9 --train.batch_size 18"),
        (sizes(ranks=5, micro=1, batch=5, forward=1), "a number of ranks that divides 32 (rollout.batch_size x"),
        (sizes(ref=3), "--ref.num_gpus_per_node 2 or 4"),
        (sizes(forward=7), "--rollout.micro_batch_size 8 or 4"),
    ],
)
def test_the_nearest_sizes_that_work_are_named(changes, fix):
    assert found(changes)[0].fix.startswith(fix)


def test_sft_names_the_multiples_on_both_sides(sft):
    (problem,) = errors(check(sft({"train.batch_size": "20", "train.micro_batch_size": "8"})))
    assert problem.fix.startswith("--train.batch_size 16 or 24;")


@settings(max_examples=60)
@given(
    prompts=SMALL, samples=SMALL, batch=st.integers(1, 48), micro=SMALL, ranks=st.integers(1, 3), ref=st.integers(1, 4)
)
def test_what_a_fix_says_is_accepted(prompts, samples, batch, micro, ranks, ref):
    asked = sizes(prompts, samples, 1, batch, micro, ranks, ref)
    problems = found(asked)
    if problems and (told := first_numbers(problems[0].fix)):
        left = found(asked | told)
        assert keys(problems[:1])[0] not in keys(left)
        assert all(value != "0" for value in told.values())
