"""The engine's side of `engine.py`: reads requests from stdin, one JSON object per line, and answers each with one line.

    {"load": "path/game.tw-pddl"} | {"generate": {"problem": PDDL, "goal": text, "grammar": "put"}} | {"step": "go to shelf 1"}
    -> {"observation", "admissible", "won", "done", "templates"} or {"error"}

Needs the extra `alfworld`. Run as a program only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from openrlhf_ext.tasks.household.instruction import forms
from openrlhf_ext.tasks.household.problem import GRAMMARS

_PUT = (
    ("move {o} to {r}", "put {o} in/on {r}"),
    ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
)
"""How the engine's grammar puts things down, and how released games do."""


class Game:
    """One game at a time; loading another one replaces it."""

    def __init__(self) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld.envs import PddlEnv

        self._env = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)), shuffle=False)
        self._templates: list[str] = []

    def answer(self, request: dict[str, object]) -> dict[str, object]:
        if "step" in request:
            state, _, done = self._env.step(str(request["step"]))
            return self._told(state, bool(done))
        if "load" in request:
            data = json.loads(Path(str(request["load"])).read_text(encoding="utf-8"))
        else:
            data = generated(request["generate"])  # type: ignore[arg-type]
        self._templates = forms(data["grammar"], data["pddl_domain"])
        self._env.load(data)
        return self._told(self._env.reset(), False)

    def _told(self, state, done: bool) -> dict[str, object]:  # type: ignore[no-untyped-def]
        return {
            "observation": state["feedback"],
            "admissible": list(state["admissible_commands"]),
            "won": bool(state["won"]),
            "done": done,
            "templates": self._templates,
        }


def generated(parts: dict[str, str]) -> dict[str, object]:
    """Game data for a generated problem, with the domain and the grammar that come with the engine."""
    from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

    grammar = Path(ALFRED_TWL2_PATH).read_text(encoding="utf-8")
    changes = [("UNKNOWN GOAL.", parts["goal"].removeprefix("Your task is to: "))]
    if parts["grammar"] == GRAMMARS[0]:
        changes += _PUT
    for old, new in changes:
        if old not in grammar:
            raise ValueError(f"the engine's grammar has no {old!r}: is this alfworld 0.4.2?")
        grammar = grammar.replace(old, new)
    domain = Path(ALFRED_PDDL_PATH).read_text(encoding="utf-8")
    return {"pddl_domain": domain, "grammar": grammar, "pddl_problem": parts["problem"], "solvable": True}


def serve() -> None:
    # The planner's library writes to the process's standard output, which is our line: keep it for ourselves.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    game: Game | None = None
    for line in sys.stdin:
        try:
            game = game or Game()
            answer = game.answer(json.loads(line))
        except Exception as error:  # whatever the engine raises is the answer: the caller decides
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        out.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    serve()
