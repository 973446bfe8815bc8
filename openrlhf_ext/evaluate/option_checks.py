"""Checks of values that several commands take; an option is named without its dashes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from openrlhf_ext.config.problem import Problem


def below_one(counts: Iterable[tuple[str, int | None]]) -> list[Problem]:
    """Counts that are less than 1; None = not given."""
    return [
        Problem(f"--{name}", f"{value}", "give 1 or more") for name, value in counts if value is not None and value < 1
    ]


def sampling_problems(temperature: float, top_p: float) -> list[Problem]:
    """Numbers that nothing can be sampled with."""
    found = []
    if not temperature >= 0:
        found.append(Problem("--temperature", f"{temperature}", "give 0 or more"))
    if not 0 < top_p <= 1:
        found.append(Problem("--top-p", f"{top_p}", "give more than 0, at most 1"))
    return found


def empty_texts(texts: Mapping[str, Iterable[str]]) -> list[Problem]:
    """Options among whose texts there is an empty one."""
    what = "an empty text"
    return [Problem(f"--{name}", what, "give texts of at least one character") for name in texts if "" in texts[name]]
