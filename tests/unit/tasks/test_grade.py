import json

import pytest

from openrlhf_ext.tasks.grade import Spread, grade_file

LABEL = {"numbers": [4, 6], "target": 24}
GOOD = "(4) * (6) = 24, left: (4 * 6) = 24\nreach 24! expression: (4 * 6)"


def write(path, rows) -> None:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))


def test_rows_keep_their_fields_and_get_a_verdict(tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "deep" / "out.jsonl"
    write(source, [{"id": 7, "label": LABEL, "response": GOOD}, {"label": json.dumps(LABEL), "response": "hm"}])
    summary = grade_file({"name": "game24"}, source, out)
    first, second = map(json.loads, out.read_text().splitlines())
    assert (first["id"], first["reward"], first["correct"], first["parsed"]) == (7, 1.0, True, True)
    assert set(first["metrics"]) >= {"outcome", "process", "length"}
    assert (second["reward"], second["correct"], second["parsed"]) == (0.15, False, False)
    assert (summary.rows, summary.correct, summary.parsed) == (2, 1, 1)
    assert summary.reward == Spread(pytest.approx(0.575), 0.15, 1.0)
    assert list(summary.metrics) == list(first["metrics"])
    assert summary.metrics["outcome"] == Spread(0.5, 0.0, 1.0)


def test_all_bad_rows_are_named_and_nothing_is_written(tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"label": LABEL, "response": GOOD},
        "{nope\n",
        {"label": LABEL},
        {"response": "x"},
        {"label": {"numbers": 4}, "response": 3},
    ]
    write(source, rows)
    with pytest.raises(ValueError) as caught:
        grade_file({"name": "game24"}, source, out)
    lines = str(caught.value).split("\n")
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5", "5"]
    assert "response: missing" in lines[1]
    assert "label: missing" in lines[2]
    assert "response: expected text, found int" in lines[3]
    assert "numbers" in lines[4]
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"[1]\n"])
def test_unreadable_files(tmp_path, content):
    source = tmp_path / "in.jsonl"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=r"in\.jsonl"):
        grade_file({"name": "game24"}, source, tmp_path / "out.jsonl")


def test_missing_file_and_directory_as_output(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        grade_file({"name": "game24"}, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    write(tmp_path / "in.jsonl", [{"label": LABEL, "response": GOOD}])
    with pytest.raises(ValueError, match="is a directory"):
        grade_file({"name": "game24"}, tmp_path / "in.jsonl", tmp_path)


def test_many_problems_are_cut(tmp_path):
    source = tmp_path / "in.jsonl"
    write(source, ["{\n"] * 50)
    with pytest.raises(ValueError, match="and 30 more problems"):
        grade_file({"name": "game24"}, source, tmp_path / "out.jsonl")


def test_labels_of_another_task_are_one_problem_with_the_task_that_fits(tmp_path):
    source = tmp_path / "in.jsonl"
    rows = [{"label": LABEL, "response": GOOD}] * 40
    write(source, [*rows, {"label": LABEL}, "{nope\n"])
    with pytest.raises(ValueError) as caught:
        grade_file({"name": "gsm8k"}, source, tmp_path / "out.jsonl")
    wrong, fix, *others = str(caught.value).split("\n")
    assert wrong.startswith(f"{source}: 41 of 41 labels are none of the task gsm8k; the first: label: ")
    assert fix == "    fix: --task game24"
    assert [line.split(":")[1] for line in others] == ["41", "42"]
    assert "response: missing" in others[0] and "not JSON" in others[1]
