import random
import re
from collections import Counter

import pytest

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.chain import chain_example, chain_examples, with_slips


def test_by_hand():
    example = chain_example("chain-0", 17, [("+", 58), ("+", 40), ("-", 20)], 100)
    assert example == {
        "id": "chain-0",
        "question": "17+58+40-20 mod 100",
        "answer": "17+58=75\n75+40=15\n15-20=95\n#### 95",
    }


def examples(count: int, **changes) -> list:
    options = {"steps": 3, "modulus": 100, "max_operand": 99, "operations": "+-", "rng": random.Random(0)} | changes
    return chain_examples(count, **options)


def test_every_answer_is_right_and_no_question_repeats():
    task = make_task({"name": "chain"})
    made = examples(500)
    assert len({example["question"] for example in made}) == 500
    for example in made:
        expression, modulus = example["question"].split(" mod ")
        total = sum(map(int, expression.replace("-", "+-").split("+")))
        assert example["answer"].endswith(f"#### {total % int(modulus)}")
        assert task.verify(example["answer"], {"answer": str(total % 100)}).reward == 1


def test_answers_cannot_be_guessed():
    answers = Counter(example["answer"].rpartition("#### ")[2] for example in examples(20_000))
    assert len(answers) == 100
    assert max(answers.values()) / 20_000 < 0.02


def test_too_few_chains_exist():
    with pytest.raises(ValueError, match="900 different chains"):
        examples(500, steps=1, max_operand=9, operations="+")


def test_slips_by_hand():
    example = chain_example("chain-0", 17, [("+", 8), ("+", 3), ("-", 9), ("+", 80)], 100)
    assert with_slips(example, 1.0, 8, random.Random(0))["answer"] == "17+8=0\n0+3=3\n3-9=0\n0+80=0\n#### 0"
    assert with_slips(example, 1.0, 81, random.Random(0)) == example


def test_slips_come_as_often_as_asked_and_only_at_large_operands():
    rng = random.Random(0)
    made = [with_slips(example, 0.3, 50, rng) for example in examples(2000)]
    slips: dict[bool, list[bool]] = {True: [], False: []}
    for line in (line for example in made for line in example["answer"].splitlines()[:-1]):
        value, operation, operand, result = re.fullmatch(r"(\d+)([+-])(\d+)=(\d+)", line).groups()
        right = (int(value) + int(operation + operand)) % 100
        assert int(result) in (right, 0)
        slips[int(operand) >= 50].append(int(result) != right)
    assert not any(slips[False])
    assert 0.27 < sum(slips[True]) / len(slips[True]) < 0.33  # 3000 draws: a standard error of 0.008; 1 % are 0 anyway
