"""Single responses for KTO: good and bad out of every kind of file, each with a partner of another problem."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.pair_options import PairOptions
from openrlhf_ext.data.pairs import Columns
from openrlhf_ext.data.unpaired import Response, ResponseData, read_responses, with_partners

END = 1


class Characters:
    """A tokenizer of one id per character."""

    eos_token_id, eos_token, bos_token_id = END, "</s>", None

    def __len__(self) -> int:
        return 200

    def __call__(self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool) -> dict:
        return {"input_ids": [ord(c) for c in text], "offset_mapping": [(i, i + 1) for i in range(len(text))]}

    def apply_chat_template(self, messages, *, tokenize: bool, add_generation_prompt: bool) -> str:
        raise AssertionError("not asked for")


def read(path: Path, rows: list[dict], **changes) -> ResponseData:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = PairOptions(**{"columns": Columns(), "max_length": 40} | changes)
    return read_responses(str(path), options, Characters(), limit=1000, seed=3)


def plain(problem: int, text: str, reward: float) -> dict:
    return {"prompt": f"q{problem}\n", "response": text, "reward": reward, "problem_id": problem}


ROWS = [plain(0, "a", 1), plain(0, "b", 0), plain(1, "c", 0.4), plain(2, "d", 1.5)]


def test_rewards_say_what_is_good_and_the_end_follows(tmp_path: Path) -> None:
    data = read(tmp_path / "r.jsonl", ROWS)
    assert [row.good for row in data.responses] == [True, False, False, True]
    assert data.counts == (2, 2)
    assert data.responses[0][:2] == ([113, 48, 10], [97, END])
    assert not [f for f in data.findings if not f.note]
    assert "2 good and 2 bad responses to 3 problems" in data.findings[-1].what
    assert read(tmp_path / "r.jsonl", ROWS, good_reward=0.4).counts == (3, 1)


def test_trajectories_keep_their_tokens(tmp_path: Path) -> None:
    def trajectory(problem: int, tokens: list[int], reward: float, truncated: bool = False) -> dict:
        ids = [7, 8, *tokens]
        return {
            "prompt": f"q{problem}",
            "label": "",
            "observation_tokens": ids,
            "action_ranges": [[2, len(ids)]],
            "rollout_log_probs": None,
            "reward": reward,
            "scores": None,
            "truncated": truncated,
            "extra_logs": {},
        }

    rows = [trajectory(0, [5, 6, END], 1), trajectory(1, [9, 9], 0), trajectory(1, [4], 0, truncated=True)]
    data = read(tmp_path / "t.jsonl", rows)
    assert [row[:3] for row in data.responses] == [([7, 8], [5, 6, END], True), ([7, 8], [9, 9], False)]
    assert "left out 1 truncated" in data.findings[0].what


def test_pairs_give_both_sides_with_the_ends_of_dpo(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}\n", "chosen": "a\n", "rejected": "w\n", "meta": {"problem_id": i % 2}} for i in range(3)]
    data = read(tmp_path / "p.jsonl", rows)
    assert [(row.response, row.good) for row in data.responses[:2]] == [([97, 10, END], True), ([119, 10], False)]
    assert {row.problem for row in data.responses} == {"0", "1"}, "prefixes of one problem belong together"


def test_one_kind_or_one_problem_is_an_error(tmp_path: Path) -> None:
    for rows, said in (
        ([plain(0, "a", 1), plain(1, "b", 1)], "2 good and 0 bad"),
        ([plain(0, "a", 1), plain(0, "b", 0)], "one problem"),
    ):
        (error,) = [f for f in read(tmp_path / "r.jsonl", rows).findings if not f.note]
        assert said in error.what and error.fix


def test_broken_rows_and_missing_files_are_errors(tmp_path: Path) -> None:
    (error,) = [f for f in read(tmp_path / "r.jsonl", [*ROWS, {"prompt": "q", "response": 3}]).findings if not f.note][
        :1
    ]
    assert "5: response: expected text" in error.what
    (missing,) = read_responses("nowhere.jsonl", PairOptions(Columns(), 10), Characters(), limit=9, seed=1).findings
    assert "no such file" in missing.what and not missing.note


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 9)), min_size=2, max_size=12),
    st.integers(0, 9),
)
def test_partners_are_of_other_problems_and_fit(shape: list[tuple[int, int, int]], seed: int) -> None:
    rows = [Response([9] * prompt, [i + 10] * length, True, p, []) for i, (p, prompt, length) in enumerate(shape)]
    kept, without = with_partners(rows, 12, seed)
    assert len(kept) + without == len(rows)
    problem_of = {i + 10: p for i, (p, _, _) in enumerate(shape)}
    for row in kept:
        assert row.partner and problem_of[row.partner[0]] != row.problem
        assert len(row.prompt) + len(row.partner) <= 12
    assert with_partners(rows, 12, seed) == (kept, without)
    for row in rows:
        if row.response not in [k.response for k in kept]:
            others = [o for o in rows if o.problem != row.problem]
            assert all(len(row.prompt) + len(o.response) > 12 for o in others)
