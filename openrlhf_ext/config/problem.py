"""One thing that is wrong with a request, or worth knowing about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """``where`` it is (a key, a file and line), ``what`` is wrong with its numbers, and the ``fix``."""

    where: str
    what: str
    fix: str
    note: bool = False
    """True: the run may start; the user should know."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    fix: {self.fix}" if self.fix else f"{self.where}: {self.what}"


class ConfigError(Exception):
    """The request cannot be resolved.

    Attributes:
        problems: everything found.
        partial: the configuration without the offending keys, so that later checks can add what they find; None where
            not even that could be made.
    """

    def __init__(self, problems: Iterable[Problem], partial: object | None = None) -> None:
        self.problems = list(problems)
        self.partial = partial
        super().__init__("\n".join(str(p) for p in self.problems))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that forbid a start, each once, in order."""
    return list(dict.fromkeys(p for p in problems if not p.note))


def notes(problems: Iterable[Problem]) -> list[Problem]:
    """The remarks, each once, in order."""
    return list(dict.fromkeys(p for p in problems if p.note))


def refuse(problems: Iterable[Problem], undone: str = "nothing was started") -> int:
    """Exit code 2, with every problem that forbids a start and its fix on the error stream."""
    found = errors(problems)
    print(f"{len(found)} problem{'s' if len(found) != 1 else ''}, {undone}:", *found, sep="\n", file=sys.stderr)
    return 2
