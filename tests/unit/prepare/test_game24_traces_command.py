import json
from collections import Counter

import pytest

from openrlhf_ext.prepare.game24_puzzles import build_puzzles
from openrlhf_ext.prepare.game24_traces import BUCKETS, bucket_bounds, build_traces
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.game24.traces import rewrite


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("puzzles")
    assert build_puzzles(folder) == {"train.jsonl": 1262, "test.jsonl": 100}
    return folder / "test.jsonl"


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_puzzle_rows(puzzles):
    for row in rows(puzzles):
        label = json.loads(row["label"])
        assert row == {
            "input": " ".join(map(str, label["numbers"])) + "\n",
            "label": row["label"],
            "datasource": "game24",
        }
        assert label["target"] == 24


def test_records(puzzles, tmp_path):
    counts = build_traces(puzzles, tmp_path, searches=2, nodes=(6, 9), workers=1)
    records = rows(tmp_path / "sft.jsonl")
    assert counts == {"sft.jsonl": len(records)}
    assert len({(row["input"], row["output"], row["nodes"]) for row in records}) == len(records)
    per_threshold = Counter(row["nodes"] for row in records)
    assert set(per_threshold) == {6, 7, 8, 9}
    assert all(190 <= count <= 200 for count in per_threshold.values())
    task = make_task({"name": "game24"})
    for row in records:
        assert set(row) == {"input", "output", "nodes"}
        assert row["input"].endswith("\n") and not row["output"].endswith("\n")
        label = {"numbers": [int(word) for word in row["input"].split()], "target": 24}
        assert task.verify(row["output"], label).metrics["process"] == 1


def test_rows_do_not_depend_on_workers_but_on_the_seed(puzzles, tmp_path):
    for name, workers, seed in [("one", 1, 1), ("two", 2, 1), ("other", 1, 2)]:
        build_traces(puzzles, tmp_path / name, searches=1, nodes=(6, 7), workers=workers, seed=seed)
    texts = {name: (tmp_path / name / "sft.jsonl").read_bytes() for name in ("one", "two", "other")}
    assert texts["one"] == texts["two"] != texts["other"]


def test_formats_hold_the_same_searches_in_the_same_order(puzzles, tmp_path):
    for form in ("v3", "v2", "v1"):
        build_traces(puzzles, tmp_path / form, searches=1, nodes=(6, 8), workers=1, format=form)
    v3 = rows(tmp_path / "v3" / "sft.jsonl")
    for form in ("v2", "v1"):
        expected = [row | {"output": rewrite(row["output"], form)} for row in v3]
        assert rows(tmp_path / form / "sft.jsonl") == expected


def test_validation_split(puzzles, tmp_path):
    build_traces(puzzles, tmp_path / "whole", searches=1, nodes=(6, 8), workers=1)
    counts = build_traces(puzzles, tmp_path / "split", searches=1, nodes=(6, 8), workers=1, validation=True)
    whole = rows(tmp_path / "whole" / "sft.jsonl")
    validation, train = (rows(tmp_path / "split" / name) for name in ("validation.jsonl", "sft.jsonl"))
    assert counts["validation.jsonl"] == len(validation) == round(0.01 * len(whole))
    assert validation + train == whole


def test_puzzles_of_other_sizes(tmp_path):
    build_puzzles(tmp_path, numbers=3, max_number=6, target=12)
    build_traces(tmp_path / "train.jsonl", tmp_path, searches=1, nodes=(5, 7), workers=1)
    task = make_task({"name": "game24"})
    for row in rows(tmp_path / "sft.jsonl"):
        verdict = task.verify(row["output"], {"numbers": [int(word) for word in row["input"].split()], "target": 12})
        assert verdict.metrics["outcome"] == verdict.metrics["process"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": (5, 9)}, "LOW at least 6"),
        ({"nodes": (9, 8)}, "LOW-HIGH"),
        ({"searches": 0}, "searches=0"),
        ({"format": "v4"}, "v4"),
    ],
)
def test_bad_requests(puzzles, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build_traces(puzzles, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_bad_puzzles_are_named_by_line(tmp_path):
    source = tmp_path / "puzzles.jsonl"
    source.write_text('{"label": {"numbers": [1, 1, 1, 1], "target": 24}}\n{"label": "x"}\n{}\n')
    with pytest.raises(ValueError) as caught:
        build_traces(source, tmp_path / "out")
    first, second, third = str(caught.value).split("\n")
    assert f"{source}:1: label: [1, 1, 1, 1] cannot make 24" in first
    assert f"{source}:2: label" in second
    assert f"{source}:3: label: missing" in third


def test_a_game_without_puzzles_is_refused(tmp_path):
    with pytest.raises(ValueError, match="solvable puzzles"):
        build_puzzles(tmp_path, numbers=2, max_number=2, target=24)


def test_bucket_bounds():
    assert bucket_bounds("300,550,1100") == BUCKETS
    assert bucket_bounds("10,20,30") == {"short": (0, 10), "medium": (10, 20), "long": (20, 30)}
