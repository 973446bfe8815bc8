import random
from collections import Counter

import pytest

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.chain import chain_example, chain_examples


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
