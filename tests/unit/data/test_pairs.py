"""Files of preference pairs: every form that is read, and every fault with its file, line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.data.pairs import Columns, Pair, files_of, read_pairs

GOOD = {"prompt": "1+1\n", "chosen": "2\n", "rejected": "3\n"}


def written(path: Path, rows: list, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def findings(tmp_path: Path, *rows: object, tail: str = "", columns: Columns | None = None, messages: bool = False):
    return read_pairs([written(tmp_path / "pairs.jsonl", list(rows), tail)], columns or Columns(), messages=messages)


def test_a_pair_keeps_its_line_breaks_margin_and_rest(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD | {"margin": 2, "meta": {"rest": "#### 3\n", "kind": "step"}})
    assert found.findings == []
    assert found.pairs == [Pair("1+1\n", "2\n", "3\n", f"{tmp_path / 'pairs.jsonl'} line 1", 2.0, "#### 3\n")]


def test_jsonl_json_and_parquet_give_the_same_pairs(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [GOOD | {"meta": {"rest": "x", "n": 1}}, GOOD | {"prompt": "2+2\n", "meta": {"rest": "y"}}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    stored = [row | {"meta": json.dumps(row["meta"])} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(stored), tmp_path / "a.parquet")
    files = [written(tmp_path / "a.jsonl", rows), tmp_path / "a.json", tmp_path / "a.parquet"]
    texts = [[pair[:3] + pair[4:] for pair in read_pairs([file], Columns()).pairs] for file in files]
    assert texts[0] == texts[1] == texts[2] and len(texts[0]) == 2
    assert texts[0][1] == ("2+2\n", "2\n", "3\n", 0.0, "y", "")


def test_several_files_follow_each_other(tmp_path: Path) -> None:
    one, two = written(tmp_path / "one.jsonl", [GOOD]), written(tmp_path / "two.jsonl", [GOOD | {"prompt": "b"}])
    found = read_pairs(files_of(f"{one}, {two}"), Columns())
    assert [pair.prompt for pair in found.pairs] == ["1+1\n", "b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rejected": ""}, "field 'rejected' is empty"),
        ({"rejected": " \n"}, "field 'rejected' is empty"),
        ({"chosen": ""}, "field 'chosen' is empty"),
        ({"prompt": ""}, "field 'prompt' is empty"),
        ({"chosen": "3\n"}, "are the same: '3\\n'"),
        ({"chosen": 3}, "field 'chosen' is a int, not text"),
        ({"chosen": None}, "no field 'chosen'"),
        ({"chosen": [{"role": "assistant", "content": "2"}]}, "field 'chosen' holds messages"),
    ],
)
def test_a_bad_row_is_an_error_that_names_line_and_field(tmp_path: Path, change: dict, said: str) -> None:
    found = findings(tmp_path, GOOD, GOOD | change)
    assert len(found.pairs) == 1
    (error,) = found.errors
    assert error.place.endswith("pairs.jsonl line 2") and said in error.what and error.fix


def test_a_half_written_line_is_named_skipped_and_counted(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD, GOOD, tail='{"prompt": "1+2\\n", "cho')
    assert len(found.pairs) == 2 and found.errors == []
    (note,) = found.findings
    assert note.place.endswith("line 3") and "skipped" in note.what


def test_many_broken_lines_are_counted(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD, tail="{\n" * 9)
    assert len(found.pairs) == 1 and found.errors == []
    assert "9 lines were skipped" in found.findings[-1].what


def test_many_bad_rows_are_named_up_to_five_and_counted(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD, *[GOOD | {"rejected": ""}] * 7)
    assert [e.place.rsplit(" ", 1)[1] for e in found.errors[:5]] == ["2", "3", "4", "5", "6"]
    assert "and 2 more rows" in found.errors[5].what and len(found.errors) == 6


def test_a_missing_column_has_a_suggestion(tmp_path: Path) -> None:
    rows = [{"question": "1", "chosen": "2", "reject": "3"}]
    found = findings(tmp_path, *rows, columns=Columns(prompt="question"))
    (error,) = found.errors
    assert "no column 'rejected'" in error.what and "did you mean reject? --data.rejected_key reject" in error.fix
    assert found.pairs == []


def test_a_missing_file_has_a_suggestion(tmp_path: Path) -> None:
    written(tmp_path / "step_pairs.jsonl", [GOOD])
    (error,) = read_pairs([tmp_path / "step_pair.jsonl"], Columns()).errors
    assert "no such file" in error.what and error.fix == "did you mean step_pairs.jsonl?"


@pytest.mark.parametrize("text", ["", "\n\n", "oh no\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    assert len(read_pairs([path], Columns()).errors) == 1


def test_conversations_with_and_without_a_prompt_of_their_own(tmp_path: Path) -> None:
    user = [{"role": "user", "content": "1+1"}]
    good, wrong = ([{"role": "assistant", "content": text}] for text in "23")
    rows = [
        {"prompt": user, "chosen": good, "rejected": wrong},
        {"chosen": user + good, "rejected": user + wrong},
    ]
    found = findings(tmp_path, *rows, messages=True)
    assert found.errors == []
    assert found.pairs[0][:3] == found.pairs[1][:3] == (user, good, wrong)
    (error,) = findings(tmp_path, {"chosen": user + good, "rejected": wrong}, messages=True).errors
    assert "differ before their last message" in error.what
