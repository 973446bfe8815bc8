"""Released files of label tasks, the alpaca form, named templates, and supervised rows made of them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from openrlhf_ext.data.labels import answer_text, read_label_examples, split_answer
from openrlhf_ext.data.prompts import Problem, read_problems, render
from openrlhf_ext.data.rationalise import rationalise_rows
from openrlhf_ext.prepare import label_toy
from openrlhf_ext.prepare.label_sft import build_label_sft
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.labels import load_spec
from openrlhf_ext.tasks.labels.toy import WORDS

SST2 = load_spec("sst2")


def test_a_table_is_read_with_and_without_its_header(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text('sentence\tlabel\na "fine film\t1\r\n\ndull\t0\n')
    first, second = read_label_examples("sst2", path)
    assert (
        first.label == "positive" and first.question.endswith('\nSentence: a "fine film') and second.label == "negative"
    )
    assert [p.label for p in read_problems("sst2", tmp_path, "dev")] == [{"label": "positive"}, {"label": "negative"}]


def test_the_paper_tables_have_their_columns(tmp_path: Path) -> None:
    rows = {
        "agnews": ("a.csv", '3,"Oil ""up""","It, too, rose"\n', "business", "Title: Oil \"up\"\nText: It, too, rose"),
        "qqp": ("a.tsv", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n7\t1\t2\tWho?\tWhat?\t0\n", "no", "Question 1: Who?"),
        "appreviews": ("a.csv", "package_name,review,date,star\nx.y,Great app,May 1,5\n", "5", "Review: Great app"),
        "stsb": ("a.tsv", "index\tg\tf\ty\to\ts\ts\tA man.\tA boy.\t2.500\n", "3", "Sentence 2: A boy."),
    }  # fmt: skip
    for task, (name, text, label, asked) in rows.items():
        text = text if task != "stsb" else "index\tg\n" + text.replace("index", "0")
        (tmp_path / name).write_text(text)
        (example,) = read_label_examples(task, tmp_path / name)
        assert (example.label, asked in example.question) == (label, True)


def test_json_rows_name_the_tasks_fields_and_skip_what_has_no_label(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [{"sentence1": "a", "sentence2": "b", "gold_label": gold} for gold in ("neutral", "-", "entailment")]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [e.label for e in read_label_examples("mnli", path)] == ["neutral", "entailment"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dull\t2\n", "label '2' is none of"),
        ("dull\n", "1 columns, at least 2"),
        ("", "no rows"),
    ],
)
def test_a_bad_table_names_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.tsv").write_text("fine\t1\n" * bool(text) + text)
    with pytest.raises(ValueError, match=words) as error:
        read_label_examples("sst2", tmp_path / "x.tsv")
    assert "x.tsv" in str(error.value) and (not text or ":2:" in str(error.value))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("Fine.", "no line `Label: <x>` at its end"),
        ("Fine.\nLabel: posi", "cut off"),
        ("Label: positive\nLabel: positive", "2 label lines"),
        ("Label: positive\nIndeed", "text after the label line"),
        (["a", "b"], "ranked pairs"),
    ],
)
def test_a_bad_answer_in_the_alpaca_form_is_named(tmp_path: Path, output: object, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "Good?", "input": "Fun.", "output": output}]))
    with pytest.raises(ValueError, match="output: ") as error:
        read_label_examples("sst2", path)
    assert words in str(error.value)


def test_answers_are_put_together_and_taken_apart() -> None:
    text = answer_text("Fun is praise.", "positive")
    assert text == "Fun is praise.\nLabel: positive"
    assert split_answer(text, SST2) == ("Fun is praise.", "positive", "")
    assert answer_text(None, "positive") == "Label: positive"


def test_named_templates_and_the_refused_one() -> None:
    assert render("q\n", "llama2") == "[INST] q [/INST]"
    assert render("q", "llama2", None, "be kind") == "[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nq [/INST]"
    assert render("q", "mistral") == "[INST] q [/INST]"
    assert render("q", "default") == "Human: q\nAssistant: "
    assert render("q", "baichuan2", None, "s") == "s<reserved_106>q<reserved_107>"
    with pytest.raises(ValueError, match="role tokens"):
        render("q", "chatglm3")


def test_supervised_rows_with_without_and_only_with_rationales(tmp_path: Path) -> None:
    rows = [{"sentence": "fun", "label": "positive", "rationale": "Praise."}, {"sentence": "dull", "label": "negative"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for how, outputs in {
        "keep": ["Praise.\nLabel: positive", "Label: negative"],
        "drop": ["Label: positive", "Label: negative"],
        "only": ["Praise.\nLabel: positive"],
    }.items():
        written = build_label_sft("sst2", tmp_path / "r.jsonl", tmp_path / "o.jsonl", how)
        found = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        assert [row["output"] for row in found] == outputs and found == written
        assert all(make_task({"name": "sst2"}).verify(row["output"], {"label": "positive"}).parsed for row in found)


def test_rationales_are_asked_for_the_labels_that_are_wanted() -> None:
    problem = Problem("Good?\nFun.", {"label": "positive"})
    for which, count in {"gold": 1, "wrong": 1, "both": 2, "all": 2}.items():
        rows = list(rationalise_rows("sst2", [problem], which, lambda q: q + "\n"))
        argued = [json.loads(str(row["label"]))["argued"] for row in rows]
        assert len(argued) == count and ("positive" in argued) == (which != "wrong")
        assert all(f"The answer is: {label}." in str(row["input"]) for row, label in zip(rows, argued, strict=True))
    with pytest.raises(ValueError, match="label task"):
        list(rationalise_rows("gsm8k", [problem], "gold", str))


def test_the_toy_has_the_noise_it_promises_and_its_splits_share_nothing(tmp_path: Path) -> None:
    counts = label_toy.build_label_toy(tmp_path, labels=3, noise=0.15, train=200, test=50, seed=1)
    assert counts["sft.jsonl"] == 200 and counts["rationales_test.jsonl"] == 50 * 3 * 2
    train, sft, test = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("train.jsonl", "sft_rationale.jsonl", "test.jsonl")
    )
    wrong = sum(a["label"] != b["label"] for a, b in zip(train, sft, strict=True))
    good = sum(row["rationale"] == f"The word is {row['word']}." for row in sft)
    assert (wrong, good) == (30, 100)
    assert not {row["words"] for row in train} & {row["words"] for row in test}
    assert max(Counter(row["label"] for row in train + test).values()) == 84  # equal shares of 250
    assert all([w for w in row["words"].split() if w in WORDS[row["label"]]] == [row["word"]] for row in train)
    mistaken = {(a["word"], b["label"]) for a, b in zip(train, sft, strict=True) if a["label"] != b["label"]}
    assert len(mistaken) == len({word for word, _ in mistaken}) <= 6, "two words of each kind, one wrong label each"
    before = (tmp_path / "sft.jsonl").read_bytes()
    label_toy.build_label_toy(tmp_path, labels=3, noise=0.15, train=200, test=50, seed=1)
    assert (tmp_path / "sft.jsonl").read_bytes() == before


def test_the_real_sets_have_their_published_sizes(shared_data: Path) -> None:
    sizes = {
        ("cola", "cola/in_domain_train.tsv"): 8551,
        ("sst2", "sst2/dev.tsv"): 872,
        ("trec", "trec/train.txt"): 5452,
        ("rte", "rte/val.tsv"): 363,
        ("rte", "rte/dev.tsv"): 277,
        ("mrpc", "mrpc/test.tsv"): 1725,
        ("sick", "sick/test.txt"): 4927,
    }
    assert {key: len(read_label_examples(key[0], shared_data / key[1])) for key in sizes} == sizes
