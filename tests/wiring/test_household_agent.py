"""OpenRLHF's multi-turn loop around a household: which tokens are the agent's, what ends a turn and an episode, what is counted."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.data.trajectory import problems
from openrlhf_ext.prepare.byte_tokenizer import byte_level_tokenizer
from openrlhf_ext.prepare.word_tokenizer import word_level_tokenizer
from openrlhf_ext.rollout.turns import NoTurns, turn_format
from openrlhf_ext.tasks import make_task
from openrlhf_ext.tasks.household.problem import HouseholdProblem
from openrlhf_ext.tasks.household.vocabulary import CHAT_TEMPLATE, PIECES
from openrlhf_ext.tasks.household.walk import oracle_walk

pytest.importorskip("openrlhf")

MUG = HouseholdProblem(
    "pick_heat_then_place_in_recep",
    "mug",
    "shelf",
    {"cabinet 1": ("mug 1",), "microwave 1": (), "shelf 1": ("book 1",)},
)
LABEL = json.dumps({"problem": MUG.to_json()})
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Params:
    """The fields of vLLM's SamplingParams that a rollout touches."""

    def __init__(self, max_tokens: int = 32, seed: int | None = 5, logprobs: int | None = 0) -> None:
        self.max_tokens, self.seed, self.logprobs = max_tokens, seed, logprobs
        self.stop_token_ids: list[int] = []
        self._all_stop_token_ids: set[int] = set()

    def clone(self) -> Params:
        return copy.deepcopy(self)


class Script:
    """An engine that says the given turns: texts, ended by the end token unless `end` is False; cut at max_tokens as vLLM does."""

    def __init__(self, tokenizer, turns: list[str], end_id: int, end: bool = True) -> None:
        self.tokenizer, self.turns, self.end_id, self.end = tokenizer, list(turns), end_id, end
        self.asked: list[tuple[list[int], Params]] = []

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        await asyncio.sleep(0)
        self.asked.append((list(prompt_token_ids), sampling_params))
        assert self.end_id in sampling_params._all_stop_token_ids
        tokens = self.tokenizer(self.turns.pop(0), add_special_tokens=False)["input_ids"] + [self.end_id] * self.end
        cut = len(tokens) > sampling_params.max_tokens or not self.end
        tokens = tokens[: sampling_params.max_tokens]
        log_probs = [{token: SimpleNamespace(logprob=-0.5)} for token in tokens]
        output = SimpleNamespace(
            token_ids=tuple(tokens), text="unused", finish_reason="length" if cut else "stop", logprobs=log_probs
        )
        return SimpleNamespace(outputs=[output])


def words():
    tokenizer = word_level_tokenizer(PIECES, 1)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def chatml():
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def play(tokenizer, turns, *, max_length=2000, end=True, params=None, **options):
    from openrlhf_ext.rollout.agent import play

    task = make_task({"name": "household", "instruction": "none", **options})
    engine = Script(tokenizer, turns, turn_format(tokenizer).end_id, end)
    response = asyncio.run(play(task, "ignored", LABEL, params or Params(), max_length, tokenizer, engine))
    return response, engine


@pytest.mark.parametrize("make", [words, chatml])
def test_the_agents_tokens_and_nothing_else_are_actions(make) -> None:
    tokenizer, walk = make(), oracle_walk(MUG)
    response, engine = play(tokenizer, walk)
    form = turn_format(tokenizer)
    tokens, ranges = response["observation_tokens"], response["action_ranges"]
    assert (response["reward"], response["scores"], response["truncated"]) == (1.0, 1.0, False)
    assert len(ranges) == len(walk) and ranges[-1][1] == len(tokens)
    for (start, end), action in zip(ranges, walk, strict=True):
        assert tokens[start:end] == tokenizer(action, add_special_tokens=False)["input_ids"] + [form.end_id]
        assert tokenizer.decode(tokens[start:end]) == action + form.end
    # What the engine was asked is exactly what is stored before each turn: nothing was tokenised again.
    assert [asked for asked, _ in engine.asked] == [tokens[:start] for start, _ in ranges]
    # And the whole reads as the chat template writes it.
    seen = response["text"].split("\n")
    assert seen[-1] == "You put the mug 1 in/on the shelf 1."
    messages = [{"role": "user", "content": make_first()}]
    for said, answer in zip(walk, answers(walk), strict=True):
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": answer}]
    whole = tokenizer.apply_chat_template(messages[:-1], tokenize=False)
    assert whole.startswith(tokenizer.decode(tokens)) and whole.removeprefix(tokenizer.decode(tokens)).strip() == ""


def make_first() -> str:
    episode = make_task({"name": "household"}).episode(LABEL)
    return episode.start()


def answers(walk: list[str]) -> list[str]:
    episode = make_task({"name": "household"}).episode(LABEL)
    episode.start()
    return [episode.play(action) for action in walk]


def test_log_probs_stand_at_the_agents_tokens() -> None:
    response, _ = play(words(), oracle_walk(MUG))
    acting = {i for start, end in response["action_ranges"] for i in range(start, end)}
    assert [p != 0.0 for p in response["rollout_log_probs"]] == [
        i in acting for i in range(len(response["observation_tokens"]))
    ]


def test_the_response_is_a_trajectory_whose_steps_are_its_turns() -> None:
    response, _ = play(words(), oracle_walk(MUG))
    row = {
        k: response[k]
        for k in response
        if k not in ("images", "mm_train_inputs", "verdict", "wrong_lines", "verifier_error")
    }
    assert problems(row) == []
    assert response["step_starts"] == [start for start, _ in response["action_ranges"]]
    assert [m["content"] for m in response["messages"] if m["role"] == "assistant"] == oracle_walk(MUG)
    assert response["messages"][0]["content"] == make_first() and response["messages"][-1]["role"] == "assistant"
    assert response["extra_logs"].keys() >= {"turns", "invalid_actions", "timeouts", "unfinished", "correct"}


def test_an_episode_becomes_a_row_of_a_collection_and_of_sft(tmp_path: Path) -> None:
    from openrlhf_ext.collect.sampling import trajectory
    from openrlhf_ext.data.offline import Reading, read_offline
    from openrlhf_ext.data.trajectory import write_trajectories
    from openrlhf_ext.evaluate.asking import Ask
    from openrlhf_ext.prepare.sft import build_sft
    from openrlhf_ext.rollout.prompts import Prompt

    tokenizer = words()
    won, _ = play(tokenizer, oracle_walk(MUG))
    short, _ = play(tokenizer, ["look"], max_turns=1)  # one turn: its text is still the whole episode
    rows = [
        trajectory(Ask(Prompt(0, "x", LABEL, "household"), i, 1.0, 0), r, task="household", policy="p", steps=None)
        for i, r in enumerate((won, short))
    ]
    write_trajectories(tmp_path / "episodes.jsonl", rows)
    reading = Reading(vocabulary=len(tokenizer), decode=lambda ids: tokenizer.decode(ids))
    data = read_offline(tmp_path / "episodes.jsonl", reading)
    found = [[list(span) for span in t["action_ranges"]] for t in data.trajectories]
    assert found == [[list(span) for span in r["action_ranges"]] for r in (won, short)]
    assert data.trajectories[0]["prompt"] == turn_format(tokenizer).first(make_first())
    built = build_sft(tmp_path / "episodes.jsonl", tmp_path / "sft.jsonl", "successes", task="household")
    assert built.rows == [{"messages": won["messages"]}]


def test_sft_on_a_walk_trains_exactly_the_tokens_that_are_actions_in_a_rollout() -> None:
    from datasets import Dataset
    from openrlhf.datasets import SFTDataset

    tokenizer = words()
    response, _ = play(tokenizer, oracle_walk(MUG))
    keys = SimpleNamespace(
        input_key="messages", output_key=None, apply_chat_template=True, tokenizer_chat_template=None
    )
    strategy = SimpleNamespace(args=SimpleNamespace(data=keys))
    rows = Dataset.from_list([{"messages": response["messages"]}])
    walks = SFTDataset(
        rows, tokenizer, 512, strategy, num_processors=1, multiturn=True
    )  # as `prepare household` writes them
    row = walks[0]
    tokens, _, trained = (tensor[0].tolist() for tensor in row)
    assert tokens == response["observation_tokens"]
    assert [i + 1 for i, on in enumerate(trained) if on] == [
        i for start, end in response["action_ranges"] for i in range(start, end)
    ]


def test_every_turn_has_a_seed_of_its_own() -> None:
    _, engine = play(words(), oracle_walk(MUG))
    seeds = [params.seed for _, params in engine.asked]
    assert len(set(seeds)) == len(seeds) and seeds[0] == 5
    _, greedy = play(words(), oracle_walk(MUG), params=Params(seed=None))
    assert {params.seed for _, params in greedy.asked} == {None}


def test_a_turn_that_was_cut_is_closed_by_text_and_the_game_goes_on() -> None:
    tokenizer = words()
    response, engine = play(tokenizer, ["go to cabinet 1", "look"], end=False, params=Params(max_tokens=3), max_turns=2)
    (start, end), (second, _) = response["action_ranges"]
    form, tokens = turn_format(tokenizer), response["observation_tokens"]
    assert end - start == 3 and form.end_id not in tokens[start:end]
    assert tokens[end] == form.end_id  # given, not acted: outside the ranges
    assert tokenizer.decode(tokens[end:second]) == form.end + "\nThe cabinet 1 is closed.\n> "
    assert all(params.max_tokens == 3 for _, params in engine.asked)
    assert response["truncated"] is False and response["extra_logs"]["timeouts"] == 1.0


def test_time_outs_and_invalid_actions() -> None:
    response, _ = play(words(), ["fly", "look", "look"], max_turns=3)
    logs = response["extra_logs"]
    assert (logs["turns"], logs["invalid_actions"], logs["timeouts"], response["reward"]) == (3.0, 1.0, 1.0, 0.0)
    assert "Nothing happens." in response["text"] and response["truncated"] is False


def test_a_full_context_truncates_the_episode() -> None:
    tokenizer = words()
    whole, _ = play(tokenizer, oracle_walk(MUG))
    starts = [start for start, _ in whole["action_ranges"]]
    # No room for the third observation: the episode ends behind the second turn.
    response, _ = play(tokenizer, oracle_walk(MUG), max_length=starts[2] - 2)
    assert response["truncated"] is True and response["reward"] == 0.0
    assert len(response["observation_tokens"]) == response["action_ranges"][-1][1] == whole["action_ranges"][1][1]
    assert len(response["rollout_log_probs"]) == len(response["observation_tokens"])
    # Room for two tokens of the third turn: it is not played.
    cut, _ = play(tokenizer, oracle_walk(MUG), max_length=starts[2] + 2)
    assert cut["truncated"] is True and cut["extra_logs"]["turns"] == 2.0
    assert cut["action_ranges"][2] == (starts[2], starts[2] + 2)


def test_a_prompt_without_room_is_truncated_and_empty() -> None:
    response, engine = play(words(), [], max_length=5)
    assert engine.asked == [] and response["truncated"] is True
    assert [end - start for start, end in response["action_ranges"]] == [0]


def test_a_broken_game_is_counted_and_ends_its_episode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from openrlhf_ext.tasks.household.toy import ToyHousehold

    def fails(self, action):
        raise RuntimeError("the floor gave way")

    monkeypatch.setattr(ToyHousehold, "step", fails)
    response, _ = play(words(), ["look"])
    assert "the floor gave way" in response["verifier_error"]
    assert (response["reward"], response["extra_logs"]["verifier_error"]) == (0.0, 1.0)
    monkeypatch.setattr(ToyHousehold, "reset", fails)
    response, _ = play(words(), ["look"])
    assert "the floor gave way" in response["verifier_error"] and response["step_starts"] == []


def test_turns_need_a_template_with_an_end_token() -> None:
    with pytest.raises(NoTurns, match="no chat template"):
        turn_format(byte_level_tokenizer())
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(NoTurns, match="not with a special token"):
        turn_format(tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(NoTurns, match="leaves out"):
        turn_format(tokenizer)


def test_the_engines_load_the_executor_that_fits_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm")
    from openrlhf.trainer.ray.vllm_engine import _load_agent_executor

    from openrlhf_ext.rollout.engines import executor_file
    from openrlhf_ext.rollout.executor import TASK_VARIABLE

    assert executor_file({"name": "chain"}).name == "executor.py"
    file = executor_file({"name": "household"})
    monkeypatch.setenv(TASK_VARIABLE, json.dumps({"name": "household", "max_turns": 7}))
    assert _load_agent_executor(str(file)).task.max_turns == 7
    monkeypatch.setenv(TASK_VARIABLE, json.dumps({"name": "chain"}))
    with pytest.raises(TypeError, match="one turn"):
        _load_agent_executor(str(file))
