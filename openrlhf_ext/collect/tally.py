"""What a collection is made of, counted row by row, so that a file of any size needs no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openrlhf_ext.record.text import number


@dataclass
class Tally:
    """Counts over trajectory rows. ``right`` and ``wrong``: problems with at least one such sample."""

    rows: int = 0
    correct: int = 0
    truncated: int = 0
    tokens: int = 0
    verifier_errors: int = 0
    problems: set[object] = field(default_factory=set)
    right: set[object] = field(default_factory=set)
    wrong: set[object] = field(default_factory=set)

    def add(self, row: Mapping[str, object]) -> None:
        """Count one row."""
        problem, correct = row["problem_id"], row["scores"] == 1
        self.rows += 1
        self.correct += correct
        self.truncated += row["truncated"] is True
        self.tokens += sum(end - start for start, end in row["action_ranges"])  # type: ignore[attr-defined]
        self.verifier_errors += "verifier_error" in row
        self.problems.add(problem)
        (self.right if correct else self.wrong).add(problem)

    def figures(self) -> dict[str, float]:
        """Shares over the rows, counts of problems, the mean length in tokens."""
        rows = max(self.rows, 1)
        return {
            "trajectories": self.rows,
            "problems": len(self.problems),
            "success": self.correct / rows,
            "truncated": self.truncated / rows,
            "no_correct": len(self.problems - self.right),
            "no_wrong": len(self.problems - self.wrong),
            "tokens": self.tokens,
            "length": self.tokens / rows,
            "verifier_errors": self.verifier_errors,
        }

    def text(self) -> str:
        """The figures for people."""
        figures = self.figures()
        lines = [
            f"{self.rows} trajectories of {len(self.problems)} problems: {100 * figures['success']:.1f}% correct, "
            f"{100 * figures['truncated']:.1f}% truncated, {number(round(figures['length'], 1))} tokens each",
            f"problems without a correct sample: {figures['no_correct']:.0f}, without a wrong one: {figures['no_wrong']:.0f}",
        ]
        if self.verifier_errors:
            lines.append(f"the verifier itself failed on {self.verifier_errors} samples (verifier_error in their rows)")
        return "\n".join(lines)
