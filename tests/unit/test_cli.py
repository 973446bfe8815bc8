"""The command line keeps its promises: exit codes, all problems together, light answers, dry runs of the shipped configs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from openrlhf_ext import cli, jobs, train, upstream
from openrlhf_ext.cluster import Cluster, Node

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "examples" / "configs"
HEAVY = ("torch", "ray", "vllm", "deepspeed", "transformers", "datasets", "openrlhf")


@pytest.fixture(autouse=True)
def hub_online(monkeypatch) -> None:
    """Some requests name a model of the hub, which `make test` forbids to ask."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_shows_an_example(command, capsys):
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "example" in text.lower()
    assert "openrlhf-ext" in text


def test_the_program_lists_its_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)
    assert cli.main(["--version"]) == 0


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["train"], ["report"], ["grade"], ["train", "grpo", "--cluster", "big"]]
)
def test_wrong_words_are_exit_code_2(words, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "grpo", "--lr", "1", "--rollout.temperature", "hot"],
        ["grade", "--help"],
        ["report", "--help"],
    ],
)
def test_light_answers_import_nothing_heavy(words):
    code = (
        "import sys; from openrlhf_ext.cli import main; main(sys.argv[1:]); "
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_argument_errors_answer_in_two_seconds_of_computing():
    code = "import time; from openrlhf_ext.cli import main; r = main(['train', 'grpo', '--lr', '1']); print(r, time.process_time())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    result, seconds = done.stdout.split()
    assert result == "2"
    assert float(seconds) < 2.0


def test_all_problems_are_listed_with_their_fix(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"input": "1 2 3 4\\n"}\n')
    words = "train grpo --task game24 --lr 1 --data.prompt_dataset rows.jsonl --rollout.top_p 2 --actor.model_name_or_path ./no"
    assert cli.main([*words.split(), "--task.chekcer", "strict"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for words in (
        "lr (command line): unknown key",
        "rollout.top_p",
        "rows.jsonl line 1",
        "no such folder: ./no",
        "task.chekcer",
    ):
        assert words in err
    assert err.startswith("6 problems, nothing was started:\n")
    assert err.count("    fix: ") == 6
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]


def test_nothing_is_written_and_nothing_started_for_a_wrong_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openrlhf_ext.launch", None)  # importing it would raise
    assert cli.main(["train", "grpo", "--run.dir", "r"]) == 2
    assert list(tmp_path.iterdir()) == []


def small_request(folder: Path) -> list[str]:
    label = json.dumps({"numbers": [13, 2, 2, 2], "target": 24})
    (folder / "rows.jsonl").write_text(json.dumps({"input": "13 2 2 2\n", "label": label}) * 1 + "\n")
    words = (
        "train grpo --task game24 --actor.model_name_or_path org/model --data.prompt_dataset rows.jsonl --rollout.batch_size 1 "
        "--rollout.n_samples_per_prompt 4 --train.batch_size 4 --rollout.max_new_tokens 8 --run.dir r --run.device cpu"
    )
    return words.split()


def test_a_checked_request_is_launched_with_its_plan(tmp_path, monkeypatch):
    import types

    monkeypatch.chdir(tmp_path)
    launched = []

    def launch(resolved, plan, *, resume):
        launched.append((resolved.method, plan.batch.samples_per_step, resume))
        return 1

    monkeypatch.setitem(sys.modules, "openrlhf_ext.launch", types.SimpleNamespace(launch=launch))
    monkeypatch.setattr(train, "preflight", lambda *_, **__: [])
    assert cli.main(small_request(tmp_path)) == 1
    assert launched == [("grpo", 4, False)]


def test_a_crash_is_exit_code_1_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "run", lambda args: 1 / 0)
    assert cli.main(["train", "grpo"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_dry_run_prints_loadable_yaml_and_the_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*small_request(tmp_path), "--dry-run", "--actor.adam.lr", "3e-6"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["actor"]["adam"]["lr"] == pytest.approx(3e-6)
    assert "1 prompts x 4 samples = 4 per step" in out
    (tmp_path / "again.yaml").write_text(out)
    assert cli.main(["train", "grpo", "--config", "again.yaml", "--dry-run"]) == 0


def test_the_plan_stands_where_a_reader_looks_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*small_request(tmp_path), "--dry-run"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("# plan: grpo on cpu") and out.index("# plan:") < out.index("\nactor:")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert out.index("\nactor:") < out.index("# plan:") and out.splitlines()[-1].startswith("#")
    assert yaml.safe_load(out)["actor"]


@pytest.mark.parametrize(("gpus", "options"), [(0, []), (0, ["--cluster", "2x8"]), (8, ["--cluster", "2x8"])])
def test_a_plan_for_gpus_says_that_there_are_none_here(gpus, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Cluster, "local", classmethod(lambda cls: cls((Node("here", 8, gpus),))))
    config = str(CONFIGS / "grpo_game24_paper.yaml")
    assert cli.main(["train", "grpo", "--config", config, "--dry-run", *options]) == 0
    out = capsys.readouterr().out
    note = "# note: the plan books 16 GPUs, this machine has none: it cannot be started here"
    assert (note in out) == (gpus == 0)
    assert ("--cluster NODESxGPUS" in out) == (not options)


def test_an_imagined_cluster_goes_with_a_dry_run_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*small_request(tmp_path), "--cluster", "2x8"]) == 2
    assert "--dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "cluster", "words"),
    [
        ("grpo_game24_paper", "2x8", "actor + ref on bundles 0-7"),
        ("grpo_game24_paper", None, "books 16 GPU"),
        ("sft_game24_paper", "1x8", "sft on bundles 0-7"),
    ],
)
def test_paper_configs_pass_for_a_cluster_that_is_not_there(name, cluster, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = ["--cluster", cluster] if cluster else []
    config = str(CONFIGS / f"{name}.yaml")
    assert cli.main(["train", name.split("_")[0], "--config", config, "--dry-run", *options]) == 0
    assert words in capsys.readouterr().out


def test_the_paper_config_needs_the_gpus_it_names(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = str(CONFIGS / "grpo_game24_paper.yaml")
    assert cli.main(["train", "grpo", "--config", config, "--dry-run", "--cluster", "1x8"]) == 2
    assert "16 GPUs are asked for (train 8, engines 8), the cluster has 8" in capsys.readouterr().err


def commented_options(config: Path, after: str) -> list[str]:
    """The options that a config's comment gives for another machine."""
    lines = config.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"# {after}"))
    text = " ".join(line.lstrip("# ").rstrip("\\") for line in lines[start + 1 : start + 3] if line.startswith("#   "))
    return text.split()


@pytest.mark.parametrize(
    ("name", "after", "cluster"),
    [
        ("grpo_game24_paper", "One GPU for everything", "1x1"),
        ("grpo_game24_paper", "The reference on a GPU of its own", "1x3"),
    ],
)
def test_the_comments_of_the_paper_config_are_right(name, after, cluster, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = CONFIGS / f"{name}.yaml"
    words = [
        "train",
        "grpo",
        "--config",
        str(config),
        "--dry-run",
        "--cluster",
        cluster,
        *commented_options(config, after),
    ]
    assert len(words) > 8
    assert cli.main(words) == 0


def test_sft_on_one_gpu_as_its_comment_says(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = "--dry-run --cluster 1x1 --run.ranks_per_node 1 --train.micro_batch_size 8"
    assert cli.main(["train", "sft", "--config", str(CONFIGS / "sft_game24_paper.yaml"), *words.split()]) == 0
    assert "8 per micro-batch x 4 accumulated x 1" in capsys.readouterr().out


def method_of(config: Path) -> str:
    names = {"reverse_curriculum": "reverse-curriculum", "self_explore": "self-explore"}
    return next((names[start] for start in names if config.stem.startswith(start)), config.stem.split("_")[0])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_has_no_mistake_in_its_values(path):
    from openrlhf_ext.config.check import check, errors
    from openrlhf_ext.config.load import load

    resolved = load(method_of(path), str(path), [])
    assert errors(check(resolved)) == []
    assert resolved.device == ("cuda" if "paper" in path.stem else "cpu")


def test_jobs_run_in_order_and_stop_at_a_failure(tmp_path, monkeypatch):
    seen = []

    def main(words):
        seen.append(words)
        return 2 if "bad" in words else 0

    monkeypatch.setattr(cli, "main", main)
    monkeypatch.setattr(upstream, "install", lambda: None)  # it is for the whole process
    file = tmp_path / "a.jobs"
    file.write_text("# first\ntrain grpo --x 'a b'\n\ntrain sft bad  # second\nreport r\n")
    assert jobs.run(argparse_namespace(file=file, keep_going=False)) == 2
    assert seen == [["train", "grpo", "--x", "a b"], ["train", "sft", "bad"]]
    seen.clear()
    assert jobs.run(argparse_namespace(file=file, keep_going=True)) == 2
    assert len(seen) == 3


def test_a_job_may_import_what_the_stack_prepares(tmp_path):
    """`prepare tiny-model` imports DeepSpeed by way of transformers; a training after it in the same process found that too late."""
    (tmp_path / "a.jobs").write_text(
        f"prepare tiny-model --out {tmp_path / 'model'} --task chain --hidden 32 --heads 1"
    )
    program = (
        "import sys\nfrom openrlhf_ext import cli, upstream\nassert cli.main(['jobs', sys.argv[1]]) == 0\n"
        "assert 'deepspeed' in sys.modules\nupstream.install()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.jobs")], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "words"), [("fly away\n", "line 1: 'fly'"), ("", "no command lines"), ("train 'x\n", "line 1")]
)
def test_a_jobs_file_is_checked_first(tmp_path, capsys, text, words):
    (tmp_path / "a.jobs").write_text(text)
    assert cli.main(["jobs", str(tmp_path / "a.jobs")]) == 2
    assert words in capsys.readouterr().err
    assert cli.main(["jobs", str(tmp_path / "missing.jobs")]) == 2


def argparse_namespace(**values):
    import argparse

    return argparse.Namespace(**values)


def test_grade_prints_a_table_of_shares_and_numbers(tmp_path, capsys):
    good = "(4) * (6) = 24, left: (4 * 6) = 24\nreach 24! expression: (4 * 6)"
    rows = [{"label": {"numbers": [4, 6], "target": 24}, "response": text} for text in (good, good, "hm")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    assert cli.main(["grade", "--task", "game24", "--in", str(tmp_path / "in.jsonl"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"game24: 3 responses graded, written to {out}"
    assert printed[1].split() == ["mean", "over", "the", "responses"]
    assert printed[2].split() == ["correct", "66.7%", "2", "of", "3"]
    assert printed[3].split() == ["parsed", "66.7%", "2", "of", "3"]
    assert printed[4].split() == ["reward", "0.717", "0.15", "to", "1"]  # (1 + 1 + 0.15) / 3
    assert printed[5].split() == ["outcome", "0.667", "0", "to", "1"]
    assert len({len(line) - len(line.lstrip()) for line in printed[2:]}) == 1
    assert not [line for line in printed if "Summary(" in line or "Spread(" in line]


def test_grade_is_the_reward_of_a_rollout(tmp_path, capsys):
    rows = [
        {"label": {"numbers": [4, 6, 1, 1], "target": 24}, "response": "reach 24! expression: (1 + 1)"},
        {"label": json.dumps({"numbers": [4, 6, 1, 1], "target": 24}), "response": ""},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--in", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert cli.main(["grade", "--task", "game24", "--task.checker", "compatible", *files]) == 0
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [round(row["reward"], 5) for row in graded] == [-0.15, 0.15]
    assert cli.main(["grade", "--task", "game24", "--task.weights", "1,0,0", *files]) == 0
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in graded] == [0.0, 0.0]
    capsys.readouterr()
    for wrong in (
        ["--task", "game25"],
        ["--task", "game24", "--task.chekcer", "x"],
        ["--lr", "1", "--task", "game24"],
        [],
    ):
        assert cli.main(["grade", *wrong, *files]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(("module", "code"), [("torch.nn", 2), ("some_typo", 1)])
def test_a_light_installation_is_told_what_to_install(module, code, monkeypatch, capsys):
    from openrlhf_ext.cli import main

    def fail(_words):
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setattr("openrlhf_ext.cli._run", fail)
    assert main(["prepare"]) == code
    said = capsys.readouterr().err
    assert ("make setup" in said) == (code == 2) and ("Traceback" in said) == (code == 1)
