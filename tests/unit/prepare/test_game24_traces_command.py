import json
from collections import Counter
from hashlib import sha256

import pytest

from openrlhf_ext.cli import main
from openrlhf_ext.data.long_cot import hold_out_puzzles
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


def numbers_of(records: list[dict]) -> set[tuple[int, ...]]:
    return {tuple(sorted(int(word) for word in record["input"].split())) for record in records}


def test_validation_holds_out_whole_puzzles(puzzles, tmp_path):
    build_traces(puzzles, tmp_path / "whole", searches=2, nodes=(6, 8), workers=1)
    counts = build_traces(puzzles, tmp_path / "split", searches=2, nodes=(6, 8), workers=1, validation="puzzles")
    whole = rows(tmp_path / "whole" / "sft.jsonl")
    validation, train = (rows(tmp_path / "split" / name) for name in ("validation.jsonl", "sft.jsonl"))
    assert (len(numbers_of(validation)), len(numbers_of(train))) == (1, 99)
    assert numbers_of(validation).isdisjoint(numbers_of(train))
    assert train == [row for row in whole if numbers_of([row]).isdisjoint(numbers_of(validation))]
    assert validation == [row for row in whole if row not in train]
    assert counts == {"sft.jsonl": len(train), "validation.jsonl": len(validation)}


def test_all_formats_hold_out_the_same_puzzles_and_the_seed_chooses_them(puzzles, tmp_path):
    held_out = {}
    for form, seed in [("v3", 1), ("v1", 1), ("v3", 2)]:
        folder = tmp_path / f"{form}-{seed}"
        build_traces(puzzles, folder, searches=1, nodes=(6, 6), workers=1, format=form, seed=seed, validation="puzzles")
        held_out[form, seed] = numbers_of(rows(folder / "validation.jsonl"))
    assert held_out["v3", 1] == held_out["v1", 1] != held_out["v3", 2]


def test_the_same_numbers_in_two_orders_are_one_puzzle():
    records = [
        {"input": text, "output": "", "nodes": 6} for text in ("1 2 3 4\n", "4 6 1 1\n", "4 3 2 1\n", "2 1 3 4\n")
    ]
    train, held_out = hold_out_puzzles(records, 0.01, seed=0)
    assert [len(part) for part in (train, held_out)] in ([1, 3], [3, 1])
    with pytest.raises(ValueError, match="1 puzzle: give at least 2"):
        hold_out_puzzles([records[0], records[2]], 0.01, seed=0)


def test_validation_by_rows_takes_the_first_ones(puzzles, tmp_path):
    build_traces(puzzles, tmp_path / "whole", searches=1, nodes=(6, 8), workers=1)
    counts = build_traces(puzzles, tmp_path / "split", searches=1, nodes=(6, 8), workers=1, validation="rows")
    whole = rows(tmp_path / "whole" / "sft.jsonl")
    validation, train = (rows(tmp_path / "split" / name) for name in ("validation.jsonl", "sft.jsonl"))
    assert counts["validation.jsonl"] == len(validation) == round(0.01 * len(whole))
    assert validation + train == whole


@pytest.mark.parametrize(
    ("validation", "digest"),
    [
        ([], "5f8a816dea5be8fbc7b8a1c72ce7c4e8f510d5d8e61d42df05602d7c38d798a7"),
        (["--validation", "rows"], "c9bc94bf1210e55eb69740ce68236531edad40aa2ef1e237a83635fd4c34c527"),
    ],
)
def test_the_rows_that_the_shipped_model_was_trained_on_stay_byte_for_byte(puzzles, tmp_path, validation, digest):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join((puzzles.parent / "train.jsonl").read_text().split("\n")[:40]))
    words = ["prepare", "game24-traces", "--puzzles", str(few), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*words, "--nodes", "6-9", "--format", "v2", "--seed", "42", *validation]) == 0
    assert sha256((tmp_path / "out" / "sft.jsonl").read_bytes()).hexdigest() == digest


def test_the_format_is_recorded_beside_the_rows_and_a_change_of_it_is_said(puzzles, tmp_path, capsys):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(puzzles.read_text().split("\n")[:3]))
    words = ["prepare", "game24-traces", "--puzzles", str(few), "--out", str(tmp_path), "--workers", "1"]
    words += ["--searches", "1", "--nodes", "6-7"]
    assert main([*words, "--format", "v2", "--validation"]) == 0
    recipe = json.loads((tmp_path / "traces.json").read_text())
    count = {name: len(rows(tmp_path / name)) for name in ("sft.jsonl", "validation.jsonl")}
    assert recipe == {
        "format": "v2",
        "searches": 1,
        "nodes": [6, 7],
        "seed": 42,
        "validation": "puzzles",
        "rows": count,
    }
    assert f"sft.jsonl: {count['sft.jsonl']} rows in format v2\n" in (first := capsys.readouterr().out)
    assert "replaced" not in first
    assert main([*words, "--format", "v3"]) == 0
    assert f"{tmp_path} held traces in format v2: they were replaced" in capsys.readouterr().out
    assert json.loads((tmp_path / "traces.json").read_text())["format"] == "v3"


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
