"""Every command of the README, the docs and the example scripts does what a reader who copies it would see.

Each page is followed from top to bottom in a folder of its own. Commands that need no model run as they are, on less data; `train` runs
with --dry-run and leaves what a run would leave (of runs that differ in seed and folder alone, the first); `evaluate` is checked up to
the start of its engines. Scripts run for real with
stand-ins for `openrlhf-ext` and `ray` that write down what they were called with, and that is then followed too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from openrlhf_ext.cli import COMMANDS, main
from openrlhf_ext.collect.request import Checked as Collection
from openrlhf_ext.collect.sampling import trajectory
from openrlhf_ext.collect.steps import step_reader
from openrlhf_ext.config.load import load
from openrlhf_ext.data.explore import Exploration, step_row
from openrlhf_ext.data.explore_file import head_rows
from openrlhf_ext.data.trajectory import write_trajectories
from openrlhf_ext.evaluate.reward_diagnostics import Diagnosis, diagnose
from openrlhf_ext.explore.request import Checked as Exploring
from openrlhf_ext.jobs import read_jobs
from openrlhf_ext.record.rows import is_run
from openrlhf_ext.record.run_dir import RunDir
from openrlhf_ext.settings import split_settings

pytestmark = pytest.mark.timeout(900)  # a page is dozens of commands; seconds each on a busy machine

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = sorted((ROOT / "examples").glob("**/*.sh"))
FROM_NOTHING = ("README.md", "grpo_game24.md")
"""Pages whose reader has prepared nothing; the others begin where the README ends."""

NOT_RUN = {
    "make demo": "takes minutes; it calls examples/demo.sh, which benchmarks/README.md names",
    "make test": "this is it",
    "make setup": "builds an environment",
    "source .venv/bin/activate": "the tests run inside it",
    "pip install torch==2.13.0 numpy packaging psutil setuptools wheel ninja": "downloads; for a GPU host",
    'pip install --no-build-isolation -e ".[gpu]"': "downloads; for a GPU host",
    "ray start --head --port 6379": "starts a server; tests/system submits a job to one",
}
"""Command lines that no test may run, and why."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
OURS = re.compile(r"(\w+=\S+ )*(openrlhf-ext|bash examples/|python benchmarks/)")
FEW_PUZZLES, MANY_ROWS, FEW_CHAINS = 6, 300, 500
MANY_SAMPLES, FEW_TRACED = 8, 24
PER_RUN = ("--run.dir", "--run.seed")
"""Settings in which runs may differ and still pass or fail the same checks."""
TABLES = tuple(f"benchmarks/{name}.py" for name in ("table", "reverse_curriculum", "start_state_picture", "curves"))
"""Programs that only read runs."""
HUB_MODELS = ("meta-llama/Llama-2-7b-hf", "Qwen/Qwen2.5-Math-1.5B")
"""Their tokenizers are not here: the stand-in's counts and cuts."""


def commands_of(page: Path) -> list[str]:
    """Command lines of a page: all lines of its bash blocks, and lines of other blocks that call this project."""
    found = []
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        lines = [line.partition("  #")[0].strip() for line in text.replace("\\\n", " ").split("\n")]
        found += [line for line in lines if line and (language == "bash" or OURS.match(line))]
    return found


class Reader:
    """Follows commands in a folder that looks like a checkout."""

    def __init__(self, folder: Path, chat_model: Path, patch: pytest.MonkeyPatch):
        self.folder, self.chat_model = folder, chat_model
        self.checked: set[tuple[str, ...]] = set()  # runs that were looked at since the files last changed
        for name in ("examples", "evaluation", "benchmarks"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        self.stubs = folder / ".stubs"
        self.stubs.mkdir(exist_ok=True)
        for name in ("openrlhf-ext", "ray"):
            stub = self.stubs / name
            stub.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "${0##*/}" "$@" $\'\\n\' >>"$CALLS"\n')
            stub.chmod(0o755)
        patch.chdir(folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("openrlhf_ext.evaluate.command._run", lambda *_, **__: 0)
        patch.setattr("openrlhf_ext.search.command._run", lambda *_, **__: 0)
        patch.setattr("openrlhf_ext.collect.command._run", leave_trajectories)
        patch.setattr("openrlhf_ext.explore.command._run", leave_explored)
        patch.setattr("openrlhf_ext.evaluate.score._diagnoses", leave_diagnoses)

    def follow(self, line: str) -> None:
        if line in NOT_RUN:
            return
        words = shlex.split(line)
        variables = {}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, variables[name] = words.pop(0).partition("=")  # type: ignore[index]
        if words[0] == "openrlhf-ext":
            self.command(words[1:])
        elif words[0] == "bash" and words[1].startswith("examples/"):
            self.script(words[1:], variables)
        elif words[:2] == ["python", "benchmarks/sandbox.py"]:
            few = ["--rounds", "1", "--programs", "2", "--threads", "1"]
            subprocess.run(["python", *words[1:], *few], check=True, capture_output=True, env=self.environment({}))
        elif words[:2] == ["python", "benchmarks/explore.py"]:  # starts an engine
            subprocess.run(["python", words[1], "--help"], check=True, capture_output=True, env=self.environment({}))
        elif words[0] == "python" and words[1] in TABLES:
            subprocess.run(["python", *words[1:]], check=True, capture_output=True, env=self.environment({}))
        else:
            pytest.fail(f"{line!r} is neither run nor in NOT_RUN")

    def script(self, words: list[str], variables: dict[str, str]) -> None:
        """Run the script with stand-ins, then follow what it called."""
        calls = self.folder / ".calls"
        calls.write_text("")
        done = subprocess.run(
            ["bash", *words],
            env=self.environment(variables | {"CALLS": str(calls)}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        called = [call.split("\0") for call in calls.read_text().split("\0\n\0") if call]
        assert called, f"{words} called nothing"
        for program, *rest in called:
            if program == "ray":
                assert rest[:6] == ["job", "submit", "--", "env", "-C", str(self.folder)], rest
                assert Path(rest[6]).name == "openrlhf-ext"
                rest = rest[7:]
            self.command(rest)

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        path = f"{self.stubs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | variables

    def command(self, words: list[str]) -> None:
        if words[0] != "train":
            self.checked.clear()
        if words[0] == "jobs":
            for job in read_jobs(self.folder / words[1]):
                self.command(job)
        elif words[0] == "train":
            dry = [] if "--dry-run" in words else ["--dry-run"]
            request = tuple(without(words, PER_RUN))
            if request not in self.checked:
                run_main([*words, *dry])
                self.checked.add(request)
            if dry:
                self.leave_run(words)
        elif words[:2] == ["prepare", "chain"]:
            run_main([*words, "--train", str(FEW_CHAINS)])
        elif words[:2] == ["prepare", "game24-traces"]:
            self.few_traces(words)
        elif words[0] == "collect" and "--n" in words and int(words[words.index("--n") + 1]) > MANY_SAMPLES:
            run_main([*words, "--n", str(MANY_SAMPLES)])
        elif words[0] == "collect" and "game24" in words:
            run_main([*words, "--limit", str(FEW_TRACED)])
        elif words[0] == "merge":
            base, out = (Path(words[words.index(name) + 1]) for name in ("--base", "--out"))
            shutil.copytree(base if base.is_dir() else self.chat_model, out)
        elif words[0] == "evaluate" and words[words.index("--suite") + 1] == "chain" and "train" in words:
            run_main(words)
            self.leave_answers(words)
        else:
            run_main([str(self.chat_model) if word in HUB_MODELS else word for word in words])

    def leave_answers(self, words: list[str]) -> None:
        """What an evaluation on training problems leaves: graded answers, half of them right, from which an offline method learns."""
        name = words[words.index("--model") + 1].partition("=")[0]
        folder = Path(words[words.index("--out") + 1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"prompt": f"{i // 2}+1 mod 100\n", "text": f"{n - 1}+1={n}\n#### {n}", "reward": i % 2, "truncated": False}
            for i in range(96)
            for n in [i // 2 + 2 - i % 2]
        ]
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def few_traces(self, words: list[str]) -> None:
        """The same command on a few puzzles; the rows are repeated so that batches can be filled."""
        puzzles, out = (words.index(name) + 1 for name in ("--puzzles", "--out"))
        few = self.folder / "few.jsonl"
        few.write_text("\n".join(Path(words[puzzles]).read_text().split("\n")[:FEW_PUZZLES]) + "\n")
        words = [*words[:puzzles], str(few), *words[puzzles + 1 :]]
        run_main([*words, "--searches", "2", "--workers", "1"])
        for name in ("sft", "validation", "short", "medium", "long"):
            file = Path(words[out]) / f"{name}.jsonl"
            if file.exists() and (rows := file.read_text()):
                file.write_text(rows * (MANY_ROWS // rows.count("\n") + 1))

    def leave_run(self, words: list[str]) -> None:
        """What a finished run leaves, where none is yet: a directory with two evaluations, and a model of the start model's shape."""
        rest, settings = split_settings(words[1:], {"--config", "--dry-run", "--cluster", "--resume"})
        resolved = load(rest[0], rest[rest.index("--config") + 1], settings)
        if is_run(Path(str(resolved.run.dir))):
            return
        start = Path(str(resolved.get("actor.model_name_or_path") or resolved.get("model.model_name_or_path")))
        with RunDir.create(resolved.run.dir, resolved.dump(), {}) as run:
            run.metrics(0, {"eval/test/accuracy": 0.25, "eval/test/count": 4})
            run.metrics(3, {"eval/test/accuracy": 0.5, "eval/test/count": 4, "train/loss": 1.0})
        shutil.copytree(start if start.is_dir() else self.chat_model, run.model, dirs_exist_ok=True)
        if rest[0] == "rm":
            config = json.loads((run.model / "config.json").read_text())
            (run.model / "config.json").write_text(json.dumps(config | {"value_head_prefix": "score"}))
        if rest[0] == "oreo":
            shutil.copytree(run.model, run.path / "value", dirs_exist_ok=True)
            save_file({"score.weight": numpy.zeros((1, 64), "float32")}, run.path / "value" / "model.safetensors")


def without(words: list[str], names: Sequence[str]) -> list[str]:
    """The words of a command line but for these settings and their values."""
    dropped = {i + j for i, word in enumerate(words) if word in names for j in (0, 1)}
    return [word for i, word in enumerate(words) if i not in dropped]


def released_data(folder: Path) -> None:
    """What a reader of the reverse-curriculum page has downloaded, in the released forms: few and short rows."""
    sums = [
        {"question": f"{i} and 3?", "answer": f"{i}+3 = <<{i}+3={i + 3}>>{i + 3}\n#### {i + 3}"} for i in range(450)
    ]
    labels = ("yes", "no", "it is not possible to tell")
    facts = [
        {"instruction": f"Is {i} even?", "input": "", "output": f"It ends in {i % 10}. ### {labels[i % 2]}"}
        for i in range(450)
    ]
    equations = [
        {
            "Body": f"Ann has {i} pens and gets 3",
            "Question": "How many?",
            "Equation": f"( {i}.0 + 3.0 )",
            "Answer": i + 3.0,
        }
        for i in range(300)
    ]
    boxes = [{"problem": f"{i} and 3?", "solution": f"It is $\\boxed{{{i + 3}}}$."} for i in range(90)]
    for name, rows in (("gsm8k", sums), ("math", boxes), ("mnli-r3", facts), ("svamp", equations)):
        place = folder / "data" / name
        place.mkdir(parents=True)
        for split, part in (("train", rows[:-10]), ("test", rows[-10:])):
            if name in ("gsm8k", "math"):
                (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
            else:
                (place / f"{split}.json").write_text(json.dumps(part))


def leave_diagnoses(model: Path, args: argparse.Namespace) -> dict[str, Diagnosis]:
    """What `score` finds with a model that ranks every pair rightly."""
    return {str(path): diagnose([4.0, 5.0], [0.0, 1.0], args.tau_quantile) for path in args.pairs}


def leave_trajectories(checked: Collection, *_: object) -> int:
    """What a collection leaves: a trajectory of every sample, half of them right."""
    encode = checked.tokenizer
    rows = []
    for ask in next(replace(checked.plan, wave=checked.plan.total).waves(checked.prompts), []):
        right = float(ask.sample % 2 == 0)
        answer = json.loads(ask.prompt.label).get("answer", "24") if right else "777"
        text = f"{ask.sample}+1={ask.sample + 1}\n#### {answer}"
        prompt, tokens = (encode(t, add_special_tokens=False)["input_ids"] for t in (ask.prompt.text, text))
        tokens = [*tokens, encode.eos_token_id]
        response = {
            "text": text,
            "observation_tokens": prompt + tokens,
            "action_ranges": [(len(prompt), len(prompt) + len(tokens))],
            "rollout_log_probs": None,
            "truncated": False,
            "extra_logs": {},
        }
        graded = response | {"reward": right, "scores": right}
        steps = step_reader(checked.tokenizer, checked.task, checked.request.delimiters)
        rows.append(trajectory(ask, graded, task=checked.task.name, policy=checked.policy, steps=steps))
    write_trajectories(checked.request.out, rows)
    return 0


def leave_explored(checked: Exploring, *_: object) -> int:
    """What an exploration leaves: completions of the first step reach the answer, later ones do not."""
    exploration = Exploration(checked.solutions, checked.budget)
    rows: list[Mapping[str, object]] = [*head_rows({}, checked.budget, checked.solutions)]
    while pending := exploration.pending():
        for due in pending:
            texts = [f"{due.solution.id} {number}\n#### {due.solution.label}" for number in range(due.count)]
            row = step_row(due, [{"text": text, "correct": due.step == 1, "tokens": 9} for text in texts])
            exploration.observe(row)
            rows.append(dict(row))
    checked.request.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0


def run_main(words: list[str]) -> None:
    """The command must end with 0; what it printed explains a failure."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    assert code == 0, f"openrlhf-ext {shlex.join(words)} ended with {code}:\n{said.getvalue()[-3000:]}"


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for Qwen2.5: a ChatML tokenizer over bytes, a small shape, a weight file without tensors."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=specials, initial_alphabet=letters)
    prompt = (ROOT / "examples/configs/sft_game24_paper.yaml").read_text()
    tokenizer.train_from_iterator([prompt] * 2, trainer)
    folder = tmp_path_factory.mktemp("chat-model")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    fast.save_pretrained(folder)
    LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


@pytest.fixture(scope="module")
def after_readme(tmp_path_factory: pytest.TempPathFactory, chat_model: Path) -> Path:
    """The folder of a reader who has followed the README: this is the README's test too."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        reader = Reader(folder, chat_model, patch)
        for line in commands_of(ROOT / "README.md"):
            reader.follow(line)
    return folder


def test_readme(after_readme: Path) -> None:
    assert (after_readme / "runs/grpo/report.html").exists()
    assert json.loads((after_readme / "graded.jsonl").read_text().split("\n")[0])["reward"] == 1.0


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "README.md" or page.parent != ROOT],
    ids=lambda p: f"{p.parent.name}/{p.name}",
)
def test_page(
    page: Path, tmp_path: Path, after_readme: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = commands_of(page)
    folder = tmp_path / "checkout"
    if page.name in FROM_NOTHING and page.parent != ROOT / "benchmarks":
        folder.mkdir()
    else:
        shutil.copytree(after_readme, folder, symlinks=True)
    if page.name in ("reverse_curriculum.md", "programs.md", "self_explore.md", "oreo.md"):
        released_data(folder)
    if page.name == "rllr.md":
        (folder / "data/trec").mkdir(parents=True)
        for split in ("train", "test"):
            (folder / f"data/trec/{split}.txt").write_text(
                "".join(f"{i % 6} Who or what is {i} ?\n" for i in range(300))
            )
    reader = Reader(folder, chat_model, monkeypatch)
    for line in lines:
        reader.follow(line)
    if page.name == "grpo_game24.md":
        assert len(lines) > 15, "the page's blocks were not found"


def test_every_script_is_in_a_page() -> None:
    lines = [line for page in PAGES for line in commands_of(page)]
    missing = [
        str(script.relative_to(ROOT))
        for script in SCRIPTS
        if not any(str(script.relative_to(ROOT)) in line for line in lines)
    ]
    assert SCRIPTS and not missing


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_form(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().split("\n")
    assert lines[0] == "#!/usr/bin/env bash" and "set -euo pipefail" in lines
    assert len(lines) <= 41, "a script is a page"


def test_a_wrong_command_is_noticed(tmp_path: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(tmp_path, chat_model, monkeypatch)
    for line in (
        "openrlhf-ext prepare game24-puzzels --out x",
        "openrlhf-ext train grpo --config examples/configs/grpo_game24_paper.yaml --cluster 2x8 --dry-run --grpo.max_step 3",
        "rm -rf somewhere",
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            reader.follow(line)


def test_a_run_is_looked_at_once_per_request_and_again_when_files_changed(
    tmp_path: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(sys.modules[__name__], "run_main", ran.append)
    reader = Reader(tmp_path, chat_model, monkeypatch)
    base = "openrlhf-ext train grpo --config a.yaml --dry-run --run.dir"
    for line in (f"{base} a --run.seed 1", f"{base} b", f"{base} c --run.seed 2 --grpo.max_steps 3"):
        reader.follow(line)
    assert [words[words.index("--run.dir") + 1] for words in ran] == ["a", "c"]
    reader.follow("openrlhf-ext doctor")
    reader.follow(f"{base} d")
    assert len(ran) == 4 and ran[-1][-1] == "d"


def test_not_run_holds_nothing_of_ours() -> None:
    assert not [line for line in NOT_RUN if OURS.match(line)]
    used = {line for page in PAGES for line in commands_of(page)}
    assert set(NOT_RUN) <= used, "an entry that no page uses any more"
    assert "train" in COMMANDS
