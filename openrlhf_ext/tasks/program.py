'''Word problems answered by a program (P-CoT of arXiv:2402.05808): gsm8k-program and svamp-program; label {"answer": "18", "prefix": ...}.

    def solution():
        """Janet's ducks lay 16 eggs per day. ..."""
        eggs = 16 - 3 - 4
        result = eggs * 2
        return result

The first two lines, the head, are part of every prompt; a start state of the reverse curriculum holds more lines. The label carries what the
prompt holds of the program as `prefix`, so that a response that goes on in the middle of a program can be run. A response that
defines `solution()` itself, in a fenced block or not, stands for itself. As in the paper's code, a program ends at its first blank line.
Programs run in `openrlhf_ext.sandbox` alone, never in this process.
'''

import re
from collections.abc import Mapping
from fractions import Fraction

from openrlhf_ext import sandbox
from openrlhf_ext.tasks.base import Label, LabelError, Verdict, read_label, split_lines
from openrlhf_ext.tasks.math_word import rational, read_answer
from openrlhf_ext.tasks.options import OptionReader

_FENCE = re.compile(r"```[a-z]*\n(.*?)(?:```|\Z)", re.DOTALL)
_DEFINITION = re.compile(r"^def solution\(", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


def program_head(question: str) -> str:
    """The definition line and the docstring that holds the question, on one line."""
    words = " ".join(question.split()).replace("\\", "\\\\")
    if '"""' in words or words.endswith('"'):
        words = words.replace('"', '\\"')
    return f'def solution():\n    """{words}"""\n'


def completed(prefix: str, response: str) -> str:
    """The program that a response makes of the prefix, up to its first blank line."""
    fenced = [block for block in _FENCE.findall(response) if _DEFINITION.search(block)]
    blocks = _BLANK_LINE.split(fenced[0] if fenced else response)
    whole = [block for block in blocks if _DEFINITION.search(block)]
    return whole[0] if whole else _BLANK_LINE.split(prefix + response, maxsplit=1)[0]


class Program:
    """Options: tolerance (absolute), partial_reward (for a program that runs to a wrong number), the limits of one program
    (cpu_seconds, wall_seconds, memory_mib), unconfined (run also where the kernel cannot confine programs), max_response_chars.
    """

    metric_keys = ("answered", "failed", "stopped")
    """A number came out; the program was wrong or raised; it met a limit or was killed. One of them is 1, none for an empty response."""

    def __init__(self, name: str, options: Mapping[str, object]):
        reader = OptionReader(name, options)
        self.name = name
        self.tolerance = reader.number("tolerance", 0.01, 0.0)
        self.partial_reward = reader.number("partial_reward", 0.0, -1.0, 1.0)
        self.limits = sandbox.Limits(
            cpu_seconds=reader.number("cpu_seconds", 2.0, 0.1, 3600.0),
            wall_seconds=reader.number("wall_seconds", 10.0, 0.1, 3600.0),
            memory_mib=reader.integer("memory_mib", 512, 16, 1_000_000),
        )
        self.unconfined = reader.flag("unconfined", False)
        self.max_response_chars = reader.integer("max_response_chars", 50_000, 1, 10_000_000)
        reader.finish()

    def verify(self, response: str, label: Label) -> Verdict:
        gold, prefix = _read(label)
        if not response.strip() or len(response) > self.max_response_chars:
            return self._verdict(0.0, False, "")
        outcome = sandbox.run(completed(prefix, response), self.limits)
        if outcome.number is None:
            return self._verdict(0.0, False, "failed" if outcome.status == "error" else "stopped")
        correct = abs(Fraction(outcome.number) - gold) <= Fraction(str(self.tolerance))
        return self._verdict(1.0 if correct else self.partial_reward, correct, "answered")

    def split(self, solution: str) -> list[str]:
        return split_lines(solution)

    def self_test(self) -> list[str]:
        try:
            fix = "; --task.unconfined true runs them all the same"
            problems = [] if self.unconfined else [problem + fix for problem in sandbox.capabilities().problems()]
            return problems + self._wrong_verdicts()
        except sandbox.SandboxError as error:
            return [str(error)]

    def _wrong_verdicts(self) -> list[str]:
        problems = []
        head = program_head('How many are "9 times 2"?')
        body = "    result = 9 * 2\n    return result"
        golds = [(head + body, ""), (body, head), (" * 2\n    return result", f"{head}    result = 9")]
        for gold, prefix in golds:
            if self.verify(gold, {"answer": "18", "prefix": prefix}).reward != 1:
                problems.append(f"gold does not earn 1: {gold!r} behind {prefix!r}")
        for junk in (
            "",
            "18",
            "#### 18",
            "    return None",
            "    return float('nan')",
            "    import numpy\n    return 18",
        ):
            if self.verify(junk, {"answer": "18", "prefix": head}).reward > 0:
                problems.append(f"junk earns a reward: {junk!r}")
        return problems

    def _verdict(self, reward: float, correct: bool, came_to: str) -> Verdict:
        return Verdict(reward, correct, came_to == "answered", {key: float(key == came_to) for key in self.metric_keys})


def _read(label: Label) -> tuple[Fraction, str]:
    """(gold number, what the prompt holds of the program)."""
    answer, prefix = rational(read_answer(label)), read_label(label).get("prefix", "")
    if answer is None:
        raise LabelError(f"the answer of a program must be a number, found answer={read_answer(label)!r}")
    if not isinstance(prefix, str) or _BLANK_LINE.search(prefix):
        raise LabelError(f"prefix must be the program's text in the prompt, without blank lines, found {prefix!r}")
    return answer, prefix
