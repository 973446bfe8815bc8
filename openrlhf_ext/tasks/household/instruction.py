"""What the agent is told before its first observation, and how its turns are read. The forms of commands come from the game."""

from __future__ import annotations

import re
from collections.abc import Sequence

INSTRUCTIONS = ("full", "none")
STYLES = ("act", "react")
LEFT_OUT = re.compile(r"\A(-= Welcome to TextWorld, ALFRED! =-\s*|You arrive at [^.]*\. )")
"""The banner of a game, and how the answer to "go to" begins: OREO's prompts leave both out."""

_INTRODUCTION = (
    "You are an agent in a household and have a task to finish. In every turn you read what you see and say what you do next.\n"
    "Commands have these forms, with the names that you have read:\n{forms}\n"
    'A command that is not possible is answered with "Nothing happens." You have {turns} turns.\n{style}'
)
_STYLE = {
    "act": "Answer with the command alone.",
    "react": 'Answer with a line "Thought: ..." and then a line "Action: ..." that holds the command.',
}
_ACTION = re.compile(r"^[ \t]*action[ \t]*:[ \t]*(.*)$", re.IGNORECASE | re.MULTILINE)


def instruction(forms: Sequence[str], turns: int, style: str) -> str:
    """The instruction with the game's own forms of commands, such as "put {o} in/on {r}"."""
    named = [re.sub(r"\{(\w*?)o\}", "{object}", form) for form in dict.fromkeys(forms)]
    named = [re.sub(r"\{(?!object)\w+\}", "{place}", form) for form in named]
    lines = "\n".join(f"- {form}" for form in named)
    return _INTRODUCTION.format(forms=lines, turns=turns, style=_STYLE[style])


def read_command(said: str) -> str | None:
    """style act: the first line that says something, after "Action:" where it says so; None where there is none."""
    found = _ACTION.findall(said)
    if found:
        return found[-1].strip() or None
    return next((line.strip() for line in said.split("\n") if line.strip()), None)


def read_react(said: str) -> str | None:
    """style react: what follows the last "Action:" of the turn on its line; None where there is none."""
    found = _ACTION.findall(said)
    return (found[-1].strip() or None) if found else None


READERS = {"act": read_command, "react": read_react}


def forms(grammar: str, domain: str) -> list[str]:
    """The forms of a game's commands: those of its grammar whose action its domain has. "go to [{r.name | ...}]" becomes "go to {r}"."""
    actions = set(re.findall(r"^\s*\(:action (\w+)", domain, re.MULTILINE))  # many are commented out
    found = re.findall(r'^action (\w+) \{\s*template :: "([^"]*)";', grammar, re.MULTILINE)
    named = (re.sub(r"\[\{(\w+)\.name[^\]]*\]", r"{\1}", text) for name, text in found if name in actions)
    return list(dict.fromkeys(named))


def shortened(observation: str) -> str:
    """The engine's text without what says nothing."""
    return LEFT_OUT.sub("", observation.strip())
