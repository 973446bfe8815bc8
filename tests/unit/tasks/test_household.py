"""The toy household: deterministic, won by its walks, counted honestly; splits without overlap; labels and options refused with reasons."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.tasks import LabelError, make_task
from openrlhf_ext.tasks.environment import Episode, is_environment, turns_of
from openrlhf_ext.tasks.household.generate import SPLITS, TASK_TYPES, Shape, generate, key
from openrlhf_ext.tasks.household.instruction import read_command, read_react, shortened
from openrlhf_ext.tasks.household.problem import HouseholdProblem, problem_from_json
from openrlhf_ext.tasks.household.toy import ToyHousehold, listing
from openrlhf_ext.tasks.household.walk import oracle_walk, searching_walk

MUG = HouseholdProblem(
    "pick_heat_then_place_in_recep",
    "mug",
    "shelf",
    {"cabinet 1": ("mug 1",), "microwave 1": (), "shelf 1": ("book 1",)},
)
LABEL = {"problem": MUG.to_json()}


def household(**options: object):
    return make_task({"name": "household", "instruction": "none", **options})


def test_one_game_word_for_word() -> None:
    game = ToyHousehold()
    first = game.reset(MUG)
    assert first == (
        "You are in the middle of a room. Looking quickly around you, you see a cabinet 1, a microwave 1, and a shelf 1.\n\n"
        "Your task is to: put a hot mug in shelf."
    )
    told = [
        ("go to cabinet 1", "The cabinet 1 is closed."),
        ("take mug 1 from cabinet 1", "Nothing happens."),
        ("open cabinet 1", "You open the cabinet 1. The cabinet 1 is open. In it, you see a mug 1."),
        ("take mug 1 from cabinet 1", "You pick up the mug 1 from the cabinet 1."),
        ("inventory", "You are carrying: a mug 1."),
        ("go to microwave 1", "The microwave 1 is closed."),
        ("heat mug 1 with microwave 1", "You heat the mug 1 using the microwave 1."),
        ("examine mug 1", "This is a hot mug 1."),
        ("go to shelf 1", "On the shelf 1, you see a book 1."),
    ]
    for action, answer in told:
        observation, reward, done, info = game.step(action)
        assert (observation, reward, done, info["won"]) == (answer, 0.0, False, False)
        assert info["valid"] == (answer != "Nothing happens.")
    assert game.step("put mug 1 in/on shelf 1")[:3] == ("You put the mug 1 in/on the shelf 1.", 1.0, True)


def test_a_cold_mug_on_the_shelf_is_not_enough() -> None:
    game = ToyHousehold()
    game.reset(MUG)
    for action in ("go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1", "go to shelf 1"):
        game.step(action)
    assert game.step("put mug 1 in/on shelf 1")[1:3] == (0.0, False)


def test_the_way_of_putting_down_belongs_to_the_game() -> None:
    other = HouseholdProblem(**{**MUG.__dict__, "grammar": "move"})
    game = ToyHousehold()
    game.reset(other)
    assert "move {o} to {r}" in game.templates and "put {o} in/on {r}" not in game.templates
    walk = oracle_walk(other)
    assert walk[-1] == "move mug 1 to shelf 1"
    assert [game.step(action) for action in walk][-1][1] == 1.0


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_walks_win_and_no_earlier(task_type: str) -> None:
    problems = generate({"train": 40}, seed=7, shape=Shape(task_types=(task_type,)))["train"]
    for problem in problems:
        assert problem.task_type == task_type
        shortest, searching = oracle_walk(problem), searching_walk(problem)
        assert len(shortest) <= len(searching) <= 40
        for walk in (shortest, searching):
            game = ToyHousehold()
            game.reset(problem)
            steps = [game.step(action) for action in walk]
            assert all(info["valid"] for *_, info in steps), walk
            assert [done for _, _, done, _ in steps] == [False] * (len(walk) - 1) + [True], walk


def test_a_search_goes_only_where_it_has_read_of() -> None:
    problem = generate({"train": 30}, seed=3)["train"][7]
    game = ToyHousehold()
    read = game.reset(problem)
    for action in searching_walk(problem):
        if action.startswith("take "):
            assert action.split(" from ")[0].removeprefix("take ") in read
        read += "\n" + game.step(action)[0]


@given(st.integers(0, 10_000))
def test_equal_seeds_equal_games_and_every_offered_command_is_understood(seed: int) -> None:
    problem = generate({"unseen": 1}, seed=seed % 50)["unseen"][0]
    games = [ToyHousehold(), ToyHousehold()]
    assert games[0].reset(problem) == games[1].reset(problem)
    chance = random.Random(seed)
    for _ in range(20):
        action = chance.choice(games[0].admissible())
        answers = [game.step(action) for game in games]
        assert answers[0] == answers[1]
        assert answers[0][3]["valid"]
        if answers[0][2]:
            break


def test_splits_share_neither_problems_nor_unseen_furniture() -> None:
    found = generate({"train": 300, "seen": 60, "unseen": 60}, seed=42)
    assert [len(found[split]) for split in SPLITS] == [300, 60, 60]
    keys = [key(problem) for split in SPLITS for problem in found[split]]
    assert len(set(keys)) == 420
    rooms = {split: {tuple(sorted(p.receptacles)) for p in found[split]} for split in SPLITS}
    assert not rooms["unseen"] & (rooms["train"] | rooms["seen"])
    assert rooms["seen"] <= rooms["train"]
    assert generate({"train": 300, "seen": 60, "unseen": 60}, seed=42) == found
    assert generate({"train": 300, "seen": 60, "unseen": 60}, seed=43) != found


def test_too_many_problems_for_the_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="rooms of at least 5"):
        Shape(receptacles=(3, 4))
    with pytest.raises(ValueError, match=r"only \d+ different rooms"):
        generate({"train": 1}, seed=0, rooms=5000, shape=Shape(receptacles=(5, 5)))


def test_invalid_actions_and_time_outs_are_counted() -> None:
    episode = household(max_turns=3).episode(LABEL)
    episode.start()
    for said in ("fly to the moon", "go to shelf 1", ""):
        episode.play(said)
    assert episode.done and episode.timed_out
    assert episode.verdict().metrics == {"turns": 3.0, "invalid_actions": 2.0, "timeouts": 1.0, "unfinished": 1.0}
    assert episode.verdict().reward == 0.0
    with pytest.raises(RuntimeError, match="ended after 3 turns"):
        episode.play("look")


def test_a_goal_reached_in_the_last_turn_is_no_time_out() -> None:
    walk = oracle_walk(MUG)
    verdict = household(max_turns=len(walk)).verify("\n".join(walk), LABEL)
    assert (verdict.reward, verdict.metrics["timeouts"]) == (1.0, 0.0)
    late = household(max_turns=len(walk) - 1).verify("\n".join(walk), LABEL)
    assert (late.reward, late.metrics["timeouts"]) == (0.0, 1.0)


def test_a_transcript_replays_to_the_same_verdict_whatever_was_said() -> None:
    task = household()
    episode = task.episode(LABEL)
    episode.start()
    sly = "look\n> go to cabinet 1\nOn the shelf"  # one turn, however it is written
    for said in ("go to cabinet 1", sly, "open cabinet 1", "  spaced  "):
        episode.play(said)
    assert turns_of(episode.transcript()) == episode.said
    assert task.verify(episode.transcript(), LABEL) == episode.verdict()


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_any_turns_survive_the_transcript(said: list[str]) -> None:
    episode: Episode = household().episode(LABEL)
    episode.start()
    for turn in said:
        episode.play(turn)
    assert turns_of(episode.transcript()) == said


@pytest.mark.parametrize(
    ("said", "act", "react"),
    [
        ("go to desk 1", "go to desk 1", None),
        ("Thought: there\nAction: go to desk 1", "go to desk 1", "go to desk 1"),
        ("Action: look\naction:  open safe 1 ", "open safe 1", "open safe 1"),
        ("Action:", None, None),
        ("\n  look \nmore", "look", None),
        ("", None, None),
    ],
)
def test_reading_an_action(said: str, act: str | None, react: str | None) -> None:
    assert (read_command(said), read_react(said)) == (act, react)


def test_banner_and_arrival_are_left_out() -> None:
    assert shortened("-= Welcome to TextWorld, ALFRED! =-\n\nYou are in") == "You are in"
    assert shortened("You arrive at loc 7. On the sofa 1, you see nothing.") == "On the sofa 1, you see nothing."
    assert shortened("You open the safe 1. You arrive at x. ") == "You open the safe 1. You arrive at x."


def test_listings() -> None:
    assert listing([]) == "nothing"
    assert listing(["mug 1"]) == "a mug 1"
    assert listing(["pen 1", "mug 2", "mug 10"]) == "a mug 10, a mug 2, and a pen 1"


def test_the_instruction_holds_the_games_own_forms() -> None:
    for grammar, form in (("put", "- put {object} in/on {place}"), ("move", "- move {object} to {place}")):
        task = make_task({"name": "household", "style": "react"})
        assert is_environment(task)
        episode = task.episode({"problem": MUG.to_json() | {"grammar": grammar}})
        episode.start()
        opening = task.opening(episode)
        assert form in opening and "40 turns" in opening and '"Thought: ..."' in opening


def test_labels() -> None:
    task = household()
    assert task.verify("", json.dumps(LABEL)).metrics["unfinished"] == 1.0
    broken = MUG.to_json() | {
        "receptacles": {"cabinet 1": ["mug 1", "mug 1"], "shelf 1": []},
        "task_type": "pick_two_obj_and_place",
    }
    for label, reason in [
        ({"answer": "18"}, 'neither "problem"'),
        ({"problem": MUG.to_json() | {"task_type": "dance"}}, "'dance' is none of"),
        ({"problem": MUG.to_json() | {"receptacles": {"shelf 1": []}}}, "needs 1 x 'mug', found 0"),
        ({"problem": broken}, "'mug 1' lies in two places"),
        ({"game": "valid_seen/x/game.tw-pddl"}, "set task.backend to alfworld"),
    ]:
        with pytest.raises(LabelError, match=reason):
            task.verify("look", json.dumps(label))
    with pytest.raises(LabelError, match=r"set task\.games"):
        household(backend="alfworld").verify("", {"game": "valid_seen/x/game.tw-pddl"})
    assert problem_from_json(json.loads(json.dumps(MUG.to_json()))) == MUG


def test_options_and_self_test() -> None:
    assert household().self_test() == []
    assert household(style="react").self_test() == []
    with pytest.raises(ValueError, match=r"task.backend='real'.*\n?.*task.max_turn: .*did you mean 'max_turns'"):
        household(backend="real", max_turn=3)


def test_figures_are_called_what_they_are() -> None:
    toy, engine = household(), household(backend="alfworld")
    assert toy.remark([LABEL]) == "generated household problems in the built-in toy: these are not ALFWorld figures"
    assert "in ALFWorld's engine: these are not" in engine.remark([LABEL])
    assert engine.remark([{"game": "a"}, {"game": "b"}]).startswith("2 released ALFWorld games")
    assert "not ALFWorld figures" in engine.remark([LABEL, {"game": "a"}])
    assert (toy.parallel([LABEL]), engine.parallel([LABEL])) == (None, 4)
