"""Trajectory files: what goes in comes out, and every fault is named by file, line and field."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_ext.data.trajectory import REQUIRED, Trajectory, problems, read_trajectories, write_trajectories


def trajectory(**changes: object) -> dict:
    row: dict = {
        "prompt": "1 2 3 4\n",
        "label": '{"numbers": [1, 2, 3, 4]}',
        "observation_tokens": [5, 6, 7, 8, 9],
        "action_ranges": [[2, 4], [4, 5]],
        "rollout_log_probs": [0.0, 0.0, -0.1, -0.2, -0.3],
        "reward": 0.5,
        "scores": 1.0,
        "truncated": False,
        "extra_logs": {"outcome": 1.0},
    }
    return row | changes


def test_the_required_fields_are_the_hosts_response() -> None:
    assert set(REQUIRED) == set(trajectory())
    assert {"id", "problem_id", "sample", "task", "policy", "text", "step_starts"} == set(Trajectory.__optional_keys__)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    rows = [
        trajectory(id="a-0", problem_id="a", sample=0, task="game24", policy="step_3", text="24", step_starts=[2, 4]),
        trajectory(rollout_log_probs=None, reward=None, scores=None, extra_logs={"other": 2.0}),
        trajectory(truncated=True, problem_id="b", text="<script>\nä", extra_logs={}),
    ]
    path = tmp_path / "deep" / f"t.{suffix}"
    assert write_trajectories(path, rows) == 3
    assert read_trajectories(path) == rows
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.integers(0, 200_000), min_size=1, max_size=20),
            st.floats(-5, 5),
            st.text(max_size=30),
            st.booleans(),
        ),
        max_size=5,
    )
)
@settings(max_examples=25, deadline=None)
def test_any_rows_survive_both_formats(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    folder = tmp_path_factory.mktemp("t")
    made = [
        trajectory(
            observation_tokens=tokens,
            action_ranges=[[0, len(tokens)]],
            rollout_log_probs=None,
            reward=reward,
            text=text,
            truncated=cut,
        )
        for tokens, reward, text, cut in rows
    ]
    for name in ("a.jsonl", "a.parquet"):
        write_trajectories(folder / name, made)
        assert read_trajectories(folder / name) == made


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"prompt": None}, "prompt: expected text, found null"),
        ({"observation_tokens": [1, "2"]}, "observation_tokens: expected a list of whole numbers"),
        ({"observation_tokens": [1, True, 3, 4, 5]}, "observation_tokens: expected a list of whole numbers"),
        ({"action_ranges": [[1, 2, 3]]}, "action_ranges: expected a list of [start, end] pairs"),
        ({"action_ranges": [[2, 9]]}, "action_ranges: [2, 9) is not inside [0, 5)"),
        ({"action_ranges": [[3, 4], [2, 3]]}, "action_ranges: [2, 3) is not inside [4, 5)"),
        ({"rollout_log_probs": [0.0]}, "rollout_log_probs: 1 values for 5 observation_tokens"),
        ({"rollout_log_probs": "none"}, "rollout_log_probs: expected a list of numbers or null"),
        ({"reward": "1"}, "reward: expected a number or null, found str '1'"),
        ({"scores": True}, "scores: expected a number or null"),
        ({"truncated": 1}, "truncated: expected true or false, found int 1"),
        ({"extra_logs": {"outcome": "yes"}}, "extra_logs.outcome: expected a number, found str 'yes'"),
        ({"extra_logs": []}, "extra_logs: expected an object of numbers"),
        ({"sample": 1.5}, "sample: expected a whole number"),
        ({"problem_id": 1.5}, "problem_id: expected text or a whole number"),
        ({"step_starts": [4, 2]}, "step_starts: must ascend within [0, 5]"),
        ({"step_starts": [9]}, "step_starts: must ascend within [0, 5]"),
    ],
)
def test_a_fault_is_named_by_field(changes: dict, fault: str) -> None:
    (found,) = problems(trajectory(**changes))
    assert found.startswith(fault)


def test_a_good_row_has_no_problems_and_tuples_and_numbers_pass() -> None:
    assert problems(trajectory()) == []
    assert problems(trajectory(action_ranges=[(2, 5)], reward=1, problem_id=7)) == []


def test_all_faults_of_a_file_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    write_trajectories(path, [trajectory()])
    good = path.read_text()
    path.write_text(
        good + "not json\n" + good.replace('"reward": 0.5', '"reward": "x"') + "\n[1]\n" + '{"prompt": "p"}\n'
    )
    with pytest.raises(ValueError) as error:
        read_trajectories(path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path}:2: not JSON")
    assert lines[1] == f"{path}:3: reward: expected a number or null, found str 'x'"
    assert lines[2].startswith(f"{path}:5: expected an object")
    assert f"{path}:6: observation_tokens: missing" in lines


def test_many_faults_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.\.\. and 10 more problems"):
        write_trajectories(tmp_path / "t.jsonl", [trajectory(reward="x")] * 30)
    assert list(tmp_path.iterdir()) == []


def test_other_formats_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.jsonl or \.parquet"):
        write_trajectories(tmp_path / "t.csv", [])
    with pytest.raises(FileNotFoundError):
        read_trajectories(tmp_path / "none.jsonl")
    assert write_trajectories(tmp_path / "e.parquet", []) == 0 and read_trajectories(tmp_path / "e.parquet") == []
