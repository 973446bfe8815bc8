"""Plays released ALFWorld games with the optional extra: replays recorded walks, then every game once with the scripted player.

    python benchmarks/household_games.py --games $ALFWORLD_DATA/json_2.1.1 [--walks expert_trajectories.jsonl] [--out benchmarks/household_games.md]

A replay must find every action offered, the recorded observation after each, and the win exactly at the last action. The player is a
script, not a model: its share of won games says that the games can be played to an end, nothing about a method.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.environment import is_environment
from openrlhf_ext.tasks.household.games import Game, Walk, find_games, read_walks
from openrlhf_ext.tasks.household.player import play_scripted


def replay_walk(game: Game, walk: Walk) -> str:
    """What differs from the record, or "" where the walk wins as recorded."""
    length = len(walk.turns)
    episode = _episode(game, turns=length + 1)
    try:
        if episode.start() != walk.first:
            return "the first observation is not the recorded one"
        for number, (action, recorded) in enumerate(walk.turns, start=1):
            if action not in episode.environment.admissible():
                return f"turn {number}: {action!r} is not offered"
            seen = episode.play(action)
            if seen != recorded:
                return f"turn {number}: {seen!r}, recorded was {recorded!r}"
            if episode.won != (number == length):
                return f"turn {number} of {length}: won is {episode.won}"
        return ""
    finally:
        episode.close()


def _episode(game: Game, turns: int = 40):
    task = make_task({"name": "household", "backend": "alfworld", "max_turns": turns, "engine_timeout": 300})
    assert is_environment(task)
    return task.episode({"game": str(game.path)})


def report(games: Sequence[Game], walks: dict[str, Walk]) -> tuple[str, bool]:
    """(the log as Markdown, whether every recorded walk won)."""
    lines = [
        "| game | split | task | walk | scripted player | turns | invalid | seconds |",
        "|---|---|---|---|---|--:|--:|--:|",
    ]
    replayed = won_walks = won = 0
    for game in games:
        started, walk = time.monotonic(), "-"
        if game.name in walks:
            fault = replay_walk(game, walks[game.name])
            replayed, won_walks = replayed + 1, won_walks + (not fault)
            walk = fault or f"won in {len(walks[game.name].turns)}"
        episode = _episode(game)
        try:
            play_scripted(episode)
        finally:
            episode.close()
        won += episode.won
        end = "won" if episode.won else "time-out"
        cells = [game.name.split("/")[1], game.split, game.goal, walk, end, episode.turns, episode.invalid_actions]
        lines.append(f"| {' | '.join(map(str, cells))} | {time.monotonic() - started:.1f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    head = [
        f"Recorded walks replayed: {won_walks} of {replayed} won. Games played once by the scripted player, 40 turns: "
        f"{won} of {len(games)} won.",
        "",
    ]
    return "\n".join([*head, *lines]) + "\n", won_walks == replayed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=Path, required=True, help="folder with train, valid_seen, valid_unseen")
    parser.add_argument("--walks", type=Path, help="recorded walks of some of these games")
    parser.add_argument("--out", type=Path, help="also write the log here")
    args = parser.parse_args()
    try:
        games, left_out = find_games(args.games)
        walks = read_walks(args.walks) if args.walks else {}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text, good = report(games, walks)
    print(text)
    if left_out:
        print(f"{left_out} games that are not marked solvable were left out")
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
