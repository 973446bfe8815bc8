import json

import pytest

from openrlhf_ext.data.prompts import Problem, prompt_row, read_problems, render


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("task", "row", "question", "label"),
    [
        ("gsm8k", {"question": "How many?", "answer": "<<9*2=18>>18\n#### 1,018"}, "How many?", {"answer": "1,018"}),
        ("chain", {"id": "c", "question": "1+2 mod 100", "answer": "1+2=3\n#### 3"}, "1+2 mod 100", {"answer": "3"}),
        ("svamp", {"Body": "A has 3. ", "Question": "Left?", "Answer": 2.0}, "A has 3. Left?", {"answer": "2"}),
        ("svamp", {"Body": "A has 3.", "Question": "Left?", "Answer": 2.5}, "A has 3. Left?", {"answer": "2.5"}),
        ("mawps", {"input": "How many?", "target": 7.0}, "How many?", {"answer": "7"}),
        (
            "math",
            {"problem": "Find x.", "solution": "So \\boxed{\\frac{1}{2}}."},
            "Find x.",
            {"answer": "\\frac{1}{2}"},
        ),
        (
            "game24",
            {"input": "4 2 6 3\n", "label": '{"numbers": [4, 2, 6, 3], "target": 24}'},
            "4 2 6 3\n",
            {"numbers": [4, 2, 6, 3], "target": 24},
        ),
    ],
)
def test_released_formats(tmp_path, task, row, question, label):
    (problem,) = read_problems(task, write(tmp_path / "data.jsonl", [row]))
    assert (problem.question, problem.label) == (question, label)


def test_lists_directories_and_tables(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps([{"Body": "A.", "Question": "B?", "Answer": 1}] * 2))
    assert len(read_problems("svamp", tmp_path, split="test")) == 2
    (tmp_path / "24.csv").write_text("Rank,Puzzles\n1,1 1 4 6\n")
    (problem,) = read_problems("game24", tmp_path / "24.csv")
    assert problem == Problem("1 1 4 6\n", {"numbers": [1, 1, 4, 6], "target": 24})


def test_bad_rows_are_named_with_file_line_and_field(tmp_path):
    source = write(tmp_path / "d.jsonl", [{"question": "x", "answer": "no result"}, {"question": 3}])
    with pytest.raises(ValueError) as caught:
        read_problems("gsm8k", source)
    lines = str(caught.value).split("\n")
    assert lines[0].startswith(f"{source}:1: answer: no result found")
    assert lines[1:] == [f"{source}:2: question: expected text, found int", f"{source}:2: answer: missing"]


@pytest.mark.parametrize("split", [None, "dev"])
def test_directories_need_a_split_that_exists(tmp_path, split):
    with pytest.raises(ValueError, match=r"--split|dev\.jsonl"):
        read_problems("gsm8k", tmp_path, split=split)


def test_deepseek_math_asks_behind_the_question_with_and_without_a_first_token():
    asked = "User: 1+1?\nPlease reason step by step, and put your final answer within \\boxed{}.\n\nAssistant:"
    first = type("Tokenizer", (), {"bos_token": "<s>"})()
    assert render("1+1?\n", "deepseek-math") == render("1+1?", "deepseek-math", first) == asked
    assert render("1+1?", "deepseek-math-bos", first) == "<s>" + asked
    assert render("1+1?", "deepseek-math-bos") == asked  # a server adds its own
    assert render("1+1?", "deepseek-math", None, "Be brief.") == "User: 1+1?\nBe brief.\n\nAssistant:"


def test_templates():
    assert render("How many?", "plain") == "How many?\n"
    assert render("4 2 6 3\n", "plain") == "4 2 6 3\n"
    alpaca = render("How {many}?", "alpaca")
    assert alpaca.startswith("Below is an instruction that describes a task.")
    assert alpaca.endswith("\n\n### Instruction:\nHow {many}?\n\n### Response:")
    with pytest.raises(ValueError, match="chat needs --tokenizer"):
        render("x", "chat")


class Chat:
    """Stands in for a tokenizer with a chat template."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize and add_generation_prompt
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"


def test_chat_leaves_the_assistant_turn_open():
    assert render("4 2\n", "chat", Chat(), system="Play.") == "<system>Play.<user>4 2\n<assistant>"
    assert render("4 2\n", "chat", Chat()) == "<user>4 2\n<assistant>"


def test_prompt_row_holds_its_label_as_text():
    row = prompt_row("gsm8k", Problem("q", {"answer": "18"}), "q\n")
    assert row == {"input": "q\n", "label": '{"answer": "18"}', "datasource": "gsm8k"}


def test_released_files_are_read_whole(shared_data):
    counts = {
        ("gsm8k", "gsm8k/train.jsonl"): 7473,
        ("svamp", "svamp/SVAMP.json"): 1000,
        ("mawps", "mawps/multiarith.jsonl"): 600,
        ("math", "math500/test.jsonl"): 500,
        ("game24", "game24/24.csv"): 1362,
        ("mnli-r3", "r3_nlu/mnli_test.json"): 130,
        ("snli-r3", "r3_nlu/snli_test.json"): 125,
        ("race", "r3_nlu/raceHigh_test.json"): 200,
        ("boardgameqa", "r3_nlu/boardgame_test.json"): 800,
    }
    for (task, name), count in counts.items():
        path = shared_data / name
        if path.is_file():
            assert len(read_problems(task, path)) == count, name
