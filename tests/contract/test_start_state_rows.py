"""Start states through OpenRLHF's loading: what `prepare reverse-curriculum` wrote is what the policy sees, and its stage arrives too."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_ext.launch_rollout import load_prompts
from openrlhf_ext.prepare.prompts import build_prompts
from openrlhf_ext.prepare.reverse_curriculum import build_reverse_curriculum
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.start_states import make_stream, stage_of


def loaded(path: Path, **data: object) -> list[Prompt]:
    fields = {"prompt_probs": None, "prompt_dataset": str(path), "max_samples": 10**6, "input_key": "input"}
    fields |= {"label_key": "label", "input_template": None, "apply_chat_template": False} | data
    args = SimpleNamespace(data=SimpleNamespace(**fields), train=SimpleNamespace(seed=1))
    strategy = SimpleNamespace(args=args, print=lambda *_: None, is_rank_0=lambda: False)
    return load_prompts(args, strategy, None, str(path), "train")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    demos = folder / "demos.jsonl"
    rows = [{"question": f"{{q{n}}} €", "answer": f"  a{n}\n\nb{n}\u2028\nc{n}\n#### {n}"} for n in range(6)]
    demos.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_reverse_curriculum("gsm8k", demos, folder / "mixed.jsonl")
    build_prompts("gsm8k", folder / "evaluation.jsonl", demos)
    return folder


def test_texts_labels_and_stages_arrive_unchanged(files: Path) -> None:
    rows = [json.loads(line) for line in (files / "mixed.jsonl").read_text(encoding="utf-8").split("\n") if line]
    prompts = loaded(files / "mixed.jsonl")
    assert len(prompts) == 30
    assert [(p.text, p.label, stage_of(p)) for p in prompts] == [(r["input"], r["label"], r["stage"]) for r in rows]


def test_stage_zero_is_the_evaluation_prompt(files: Path) -> None:
    evaluation = {p.text for p in loaded(files / "evaluation.jsonl")}
    assert {p.text for p in loaded(files / "mixed.jsonl") if stage_of(p) == 0} == evaluation
    assert all(text.endswith("€\n") for text in evaluation)


def test_every_mode_can_be_made_of_the_mixed_file(files: Path) -> None:
    prompts = loaded(files / "mixed.jsonl")
    stages = {
        mode: [stage_of(p) for p in make_stream(mode, prompts, seed=1).take(30)]
        for mode in ("staged", "plain", "adaptive")
    }
    assert stages["staged"] == [4] * 6 + [3] * 6 + [2] * 6 + [1] * 6 + [0] * 6
    assert stages["plain"] == [0] * 30
    assert sorted(stages["adaptive"]) == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6 + [4] * 6


def test_a_template_on_top_would_show(files: Path) -> None:
    # The control: rows are rendered already, and OpenRLHF's own template would put the gold prefix into the question.
    (first, *_) = loaded(files / "mixed.jsonl", input_template="User: {}\nAssistant:")
    assert first.text.startswith("User: ")
