"""Makes generated household problems and walks that solve them: train.jsonl, seen.jsonl, unseen.jsonl and sft.jsonl.

With --games the problems are those of released ALFWorld games, and sft.jsonl holds recorded walks of the training games, if --walks-from
names a file of them.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from openrlhf_ext.prepare.arguments import at_least, integer_range
from openrlhf_ext.tasks.base import Label
from openrlhf_ext.tasks.environment import Episode
from openrlhf_ext.tasks.household.games import Game, Walk, find_games, read_walks
from openrlhf_ext.tasks.household.generate import SPLITS, TASK_TYPES, Shape, generate
from openrlhf_ext.tasks.household.instruction import INSTRUCTIONS
from openrlhf_ext.tasks.household.instruction import instruction as instruction_text
from openrlhf_ext.tasks.household.problem import GRAMMARS, HouseholdProblem
from openrlhf_ext.tasks.household.task import Household
from openrlhf_ext.tasks.household.walk import oracle_walk, searching_walk
from openrlhf_ext.tasks.options import did_you_mean
from openrlhf_ext.tasks.rows import Row, write_jsonl

HELP = "household problems in text, and demonstrations"
EXAMPLE = "--out data/household --train 400 --seen 60 --unseen 60"
WALKS: dict[str, Callable[[HouseholdProblem], list[str]]] = {"searching": searching_walk, "shortest": oracle_walk}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--train", type=at_least(1), default=400, help="training problems (default 400)")
    parser.add_argument("--seen", type=at_least(1), default=60, help="other problems in the same rooms (default 60)")
    parser.add_argument("--unseen", type=at_least(1), default=60, help="problems in other rooms (default 60)")
    parser.add_argument("--rooms", type=at_least(1), default=24, help="rooms of train and seen (default 24)")
    parser.add_argument(
        "--receptacles", type=integer_range, default=(6, 8), metavar="A-B", help="per room (default 6-8)"
    )
    parser.add_argument("--objects", type=integer_range, default=(4, 7), metavar="A-B", help="per room (default 4-7)")
    parser.add_argument("--task-types", nargs="+", default=TASK_TYPES, metavar="T", help="default: all six")
    parser.add_argument(
        "--grammar",
        choices=GRAMMARS,
        default="put",
        help="put X in/on Y (default), or move X to Y as alfworld 0.4 says",
    )
    parser.add_argument(
        "--walks",
        choices=tuple(WALKS),
        default="searching",
        help="demonstrations: by someone who searches (default), or who knows where things are",
    )
    parser.add_argument(
        "--instruction", choices=INSTRUCTIONS, default="none", help="of the prompts, as task.instruction (default none)"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--games", type=Path, metavar="DIR", help="released games instead: train, valid_seen, valid_unseen"
    )
    parser.add_argument(
        "--walks-from", type=Path, metavar="FILE", help='recorded walks, {"id", "conversations"} a line'
    )


def run(args: argparse.Namespace) -> None:
    if args.games or args.walks_from:
        if args.games is None:
            raise ValueError("--walks-from: needs --games, whose games the walks belong to")
        counts, notes = build_games(args.out, args.games, args.walks_from, args.instruction)
        for name, count in counts.items():
            print(f"{args.out / name}: {count} rows")
        print(*notes, sep="\n")
        return
    unknown = [name for name in args.task_types if name not in TASK_TYPES]
    if unknown:
        raise ValueError(f"--task-types {unknown[0]}: no such type; {did_you_mean(unknown[0], TASK_TYPES)}")
    counts = build_household(
        args.out,
        {"train": args.train, "seen": args.seen, "unseen": args.unseen},
        shape=Shape(args.receptacles, args.objects, tuple(args.task_types), args.grammar),
        rooms=args.rooms,
        walks=args.walks,
        instruction=args.instruction,
        seed=args.seed,
    )
    for name, count in counts.items():
        print(f"{args.out / name}: {count} rows")


def build_household(
    out: Path,
    counts: dict[str, int] | None = None,
    *,
    shape: Shape | None = None,
    rooms: int = 24,
    walks: str = "searching",
    instruction: str = "none",
    seed: int = 42,
) -> dict[str, int]:
    """Writes the files into OUT and returns rows per file. Raises ValueError where the shape allows fewer problems.

    `sft.jsonl` holds one walk for every training problem, {"messages": [{"role", "content"}, ...]}, for `data.multiturn`.
    """
    task = Household("household", {"instruction": instruction})
    found = generate(counts or {"train": 400, "seen": 60, "unseen": 60}, seed=seed, rooms=rooms, shape=shape)
    written = {
        f"{split}.jsonl": write_jsonl(Path(out) / f"{split}.jsonl", (_row(task, problem) for problem in found[split]))
        for split in SPLITS
    }
    written["sft.jsonl"] = write_jsonl(Path(out) / "sft.jsonl", _demonstrations(task, found["train"], walks))
    return written


def build_games(
    out: Path, games: Path, walks: Path | None = None, instruction: str = "none"
) -> tuple[dict[str, int], list[str]]:
    """Writes rows of released games into OUT; returns rows per file, and what was left out. No game is started.

    The prompt of a row is its goal alone: what else the agent reads comes from the game when it is played. Raises ValueError.
    """
    found, unsolvable = find_games(games)
    recorded = read_walks(walks) if walks else {}
    known = {game.name: game for game in found if game.split == "train"}
    demonstrations = [_recorded(recorded[name], known[name], instruction) for name in recorded if name in known]
    written = {
        f"{split}.jsonl": write_jsonl(Path(out) / f"{split}.jsonl", rows)
        for split in SPLITS
        if (rows := [_game_row(game) for game in found if game.split == split])
    }
    if walks:
        written["sft.jsonl"] = write_jsonl(Path(out) / "sft.jsonl", demonstrations)
    notes = [f"left out: {unsolvable} games that are not marked solvable"] if unsolvable else []
    if len(recorded) > len(demonstrations):
        notes.append(f"left out: {len(recorded) - len(demonstrations)} walks of games that are not here")
    return written, notes


def _game_row(game: Game) -> Row:
    text = f"Your task is to: {game.goal}"
    return {"input": text, "label": json.dumps({"game": str(game.path)}), "datasource": game.task_type}


def _recorded(walk: Walk, game: Game, instruction: str) -> Row:
    first = walk.first
    if instruction != "none":
        first = f"{instruction_text(game.forms(), Household('household', {}).max_turns, 'act')}\n\n{first}"
    messages = [{"role": "user", "content": first}]
    for action, seen in walk.turns:
        messages += [{"role": "assistant", "content": action}, {"role": "user", "content": seen}]
    return {"messages": messages[:-1], "id": game.name}


def _row(task: Household, problem: HouseholdProblem) -> Row:
    label = {"problem": problem.to_json()}
    return {"input": _started(task, label)[1], "label": json.dumps(label), "datasource": problem.task_type}


def _demonstrations(task: Household, problems: list[HouseholdProblem], walks: str) -> Iterator[Row]:
    for problem in problems:
        episode, opening = _started(task, {"problem": problem.to_json()})
        messages = [{"role": "user", "content": opening}]
        for action in WALKS[walks](problem):
            messages.append({"role": "assistant", "content": action})
            messages.append({"role": "user", "content": episode.play(action)})
        yield {"messages": messages[:-1]}


def _started(task: Household, label: Label) -> tuple[Episode, str]:
    episode = task.episode(label)
    episode.start()
    return episode, task.opening(episode)
