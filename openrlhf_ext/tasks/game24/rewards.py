"""The three-part rule reward: r = w_outcome * outcome + w_process * process + w_length * length."""

import math
from dataclasses import dataclass

from openrlhf_ext.tasks.game24.checker import Check


@dataclass(frozen=True)
class LengthCurve:
    """r_l = 1 if n <= t else 1 / (1 + exp(k (n - t - m))), n = number of lines. Not continuous at t (.978 at t + 1)."""

    t: float = 4
    m: float = 20
    k: float = 0.2

    def __call__(self, lines: int) -> float:
        if lines <= self.t:
            return 1.0
        exponent = self.k * (lines - self.t - self.m)
        return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


@dataclass(frozen=True)
class RewardRule:
    """Weights of the parts and the outcome of a wrong expression on the last line (0 now, 0.35 in the report's code)."""

    weights: tuple[float, float, float] = (0.55, 0.3, 0.15)
    wrong_expression_reward: float = 0.0
    length: LengthCurve = LengthCurve()
    clamp: bool = False

    def parts(self, check: Check) -> tuple[float, float, float]:
        """(outcome, process, length), unweighted."""
        wrong_expression = self.wrong_expression_reward if check.finished else 0.0
        process = max(0.0, check.process) if self.clamp else check.process
        return (1.0 if check.solved else wrong_expression), process, self.length(check.lines)

    def total(self, parts: tuple[float, float, float]) -> float:
        """The weighted sum, rounded to 12 decimals so that exact cases print exactly."""
        return round(sum(weight * part for weight, part in zip(self.weights, parts, strict=True)), 12)
