"""What the reverse curriculum adds to the shared loop, made from a request and its plan."""

from __future__ import annotations

import pytest

from openrlhf_ext.config.load import load
from openrlhf_ext.config.schema import ReverseCurriculum
from openrlhf_ext.curriculum import Adaptive, Staged
from openrlhf_ext.methods.reverse_curriculum import REVERSE_CURRICULUM, StartStates
from openrlhf_ext.plan import make_plan
from openrlhf_ext.rollout.prompts import Prompt, PromptStream
from openrlhf_ext.rollout.start_states import StageStream

SIZES = (4, 3, 5)


def prompts() -> list[Prompt]:
    """4, 3 and 5 start states of the stages 0, 1, 2."""
    stages = [stage for stage, size in enumerate(SIZES) for _ in range(size)]
    return [Prompt(i, f"q{i}", "{}", f"stage_{stage}") for i, stage in enumerate(stages)]


def schedule(total: int | None = None, **options: object):
    stream = StartStates(ReverseCurriculum(**options), total).stream(prompts(), seed=1)
    assert isinstance(stream, StageStream)
    return stream.schedule


@pytest.mark.parametrize(("mode", "rows"), [("mixed", 12), ("plain", 4)])
def test_modes_without_a_schedule(mode: str, rows: int) -> None:
    method = StartStates(ReverseCurriculum(mode=mode), total=100)
    stream = method.stream(prompts(), seed=1)
    assert isinstance(stream, PromptStream)
    assert len(stream) == rows
    assert method.stage_stream is None


def test_staged_budgets_are_the_users_else_equal_shares_of_the_run_else_one_pass() -> None:
    made = schedule(mode="staged", total=100, budgets=[1, 2, 3])
    assert isinstance(made, Staged)
    assert made.budgets == [1, 2, 3]
    assert schedule(mode="staged", total=100).budgets == [34, 33, 33]
    assert schedule(mode="staged").budgets == list(SIZES)


def test_adaptive_takes_its_settings() -> None:
    made = schedule(mode="adaptive", adaptive_floor=0.5, adaptive_memory=16.0)
    assert isinstance(made, Adaptive)
    assert (made.floor, made.memory, made.stages) == (0.5, 16.0, 3)


def test_a_run_with_fewer_start_states_than_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="2 start states cannot be shared among 3 stages"):
        schedule(total=2, mode="staged")


def test_rows_that_name_no_stage_are_refused() -> None:
    with pytest.raises(ValueError, match="row 0 has datasource 'chain'"):
        StartStates(ReverseCurriculum()).stream([Prompt(0, "q", "{}", "chain")], seed=1)


def test_the_recipe_reads_the_request_and_its_plan() -> None:
    settings = {"task.name": "chain", "reverse_curriculum.mode": "staged", "reverse_curriculum.whiten": "false"}
    settings |= {"rollout.batch_size": "8", "train.batch_size": "8", "reverse_curriculum.max_steps": "3"}
    resolved = load("reverse-curriculum", None, list(settings.items()))
    method = REVERSE_CURRICULUM.method(resolved, make_plan(resolved, "cpu"))
    assert isinstance(method, StartStates)
    assert method.total == 24
    method.stream(prompts(), seed=1)
    assert method.stage_stream.schedule.budgets == [8, 8, 8]
    maker = type("Maker", (), {})()
    method.configure(maker)
    assert maker.whiten_advantages is False


def test_the_state_is_the_mode() -> None:
    state = StartStates(ReverseCurriculum(mode="staged")).state_dict()
    StartStates(ReverseCurriculum(mode="staged")).load_state_dict(state)
    with pytest.raises(ValueError, match="written in mode staged, this run is in mode mixed"):
        StartStates(ReverseCurriculum()).load_state_dict(state)
