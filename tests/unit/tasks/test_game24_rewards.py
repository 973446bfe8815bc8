import math

import pytest

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.game24.rewards import LengthCurve


@pytest.mark.parametrize(
    ("lines", "value"),
    [(1, 1), (4, 1), (5, 0.97812), (8, 0.96083), (14, 0.88080), (24, 0.5), (26, 0.40131), (50, 0.00549), (10**6, 0)],
)
def test_length_curve(lines, value):
    assert LengthCurve()(lines) == pytest.approx(value, abs=1e-5)


def test_length_curve_of_the_first_version():
    assert LengthCurve(t=20, m=10, k=0.2)(20) == 1
    assert LengthCurve(t=20, m=10, k=0.2)(30) == 0.5
    assert LengthCurve(t=20, m=10, k=0.2)(35) == pytest.approx(1 / (1 + math.e))


def test_wrong_expression_reward_is_the_outcome_of_a_wrong_final_line_only():
    task = make_task({"name": "game24", "wrong_expression_reward": 0.35})
    label = {"numbers": [4, 6, 1, 1], "target": 24}
    wrong = task.verify("reach 24! expression: (4 + 6)", label)
    unfinished = task.verify("(4) * (6) = 24, left: (4 * 6) = 24, 1, 1", label)
    right = task.verify("reach 24! expression: 4 * 6 * 1 * 1", label)
    assert [v.metrics["outcome"] for v in (wrong, unfinished, right)] == [0.35, 0, 1]
    assert [v.correct for v in (wrong, unfinished, right)] == [False, False, True]
    assert wrong.reward == pytest.approx(0.55 * 0.35 + 0.15)


def test_weights_come_as_list_or_text():
    for weights in ([0.15, 0.75, 0.1], "0.15,0.75,0.1", "[0.15, 0.75, 0.1]"):
        task = make_task({"name": "game24", "weights": weights})
        verdict = task.verify("(4) * (6) = 24, left: (4 * 6) = 24, 1, 1", {"numbers": [4, 6, 1, 1], "target": 24})
        assert verdict.reward == pytest.approx(0.85)


def test_unfinished_and_parsed():
    task = make_task({"name": "game24"})
    label = {"numbers": [4, 6], "target": 24}
    cut = task.verify("(4) * (6) = 24, left: (4 *", label)
    broken = task.verify("reach 24! expression: (4 *", label)
    assert (cut.metrics["unfinished"], cut.parsed) == (1, False)
    assert (broken.metrics["unfinished"], broken.parsed) == (0, False)
