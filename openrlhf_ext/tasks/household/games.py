"""Released ALFWorld games on disk: which there are, their splits, and recorded walks of experts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ext.tasks.household.instruction import forms, shortened
from openrlhf_ext.tasks.rows import read_rows

SPLITS = {"train": "train", "valid_seen": "seen", "valid_unseen": "unseen"}
"""Folder of a release -> our split."""


@dataclass(frozen=True)
class Game:
    """`path` of game.tw-pddl; `name` as in recorded walks, `train/<task>/<trial>`; `goal` from the game's own grammar."""

    path: Path
    name: str
    split: str
    task_type: str
    goal: str

    def forms(self) -> list[str]:
        """The forms of the game's commands."""
        data = _read(self.path)
        return forms(str(data["grammar"]), str(data["pddl_domain"]))


def find_games(folder: Path) -> tuple[list[Game], int]:
    """The solvable games below `folder` in order of name, and how many others were left out.

    Raises ValueError where no split's folder or no game is there, or a file is broken.
    """
    folder = Path(folder)
    if not any((folder / name).is_dir() for name in SPLITS):
        raise ValueError(f"{folder} holds none of the folders {', '.join(SPLITS)}: give e.g. $ALFWORLD_DATA/json_2.1.1")
    found, left_out = [], 0
    for name, split in SPLITS.items():
        for path in sorted((folder / name).glob("*/*/game.tw-pddl")):
            data = _read(path)
            if data.get("solvable") is not True:
                left_out += 1
                continue
            goal = re.search(r"Your task is to: ([^\"\\]*)", str(data.get("grammar")))
            if goal is None:
                raise ValueError(f"{path}: its grammar states no task")
            task_type = path.parent.parent.name.partition("-")[0]
            found.append(
                Game(path.absolute(), f"{name}/{path.parent.parent.name}/{path.parent.name}", split, task_type, goal[1])
            )
    if not found:
        raise ValueError(f"{folder}: no solvable game.tw-pddl below it")
    return found, left_out


@dataclass(frozen=True)
class Walk:
    """A recorded walk: the first observation, then (action, the observation after it), without banner and words of arrival."""

    first: str
    turns: tuple[tuple[str, str], ...]


def read_walks(path: Path) -> dict[str, Walk]:
    """Game name -> walk of a file of recorded walks {"id", "conversations": [{"from", "value"}]}.

    Raises ValueError naming file:line.
    """
    walks = {}
    for row in read_rows(path, _walk_faults):
        said = [str(turn["value"]) for turn in row["conversations"]]  # type: ignore[attr-defined]
        turns = tuple((said[i], shortened(said[i + 1])) for i in range(1, len(said) - 1, 2))
        walks[str(row["id"])] = Walk(shortened(said[0]), turns)
    return walks


def _walk_faults(row: dict[str, object]) -> list[str]:
    turns = row.get("conversations")
    if not isinstance(row.get("id"), str):
        return ["id: expected text"]
    if not isinstance(turns, list) or len(turns) < 3 or not all(isinstance(t, dict) and "value" in t for t in turns):
        return ['conversations: expected a list of {"from", "value"}']
    speakers = [turn.get("from") for turn in turns]
    expected = ["human" if i % 2 == 0 else "gpt" for i in range(len(turns))]
    return (
        [] if speakers == expected and len(turns) % 2 else ["conversations: human and gpt must take turns, human last"]
    )


def _read(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict) or not {"pddl_domain", "grammar", "pddl_problem"} <= data.keys():
        raise ValueError(f"{path}: no game: pddl_domain, grammar and pddl_problem belong in it")
    return data
