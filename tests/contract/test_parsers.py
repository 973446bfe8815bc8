"""Upstream's command lines, lifted out of their main blocks: same options, same checks, nothing heavy imported."""

import json
import subprocess
import sys

import pytest

from openrlhf_ext.upstream import cli
from openrlhf_ext.upstream.cli import FROZEN, PROGRAMS, UpstreamArgumentError, destinations, parse, parse_with_notes

GROUPS = ["--algo.advantage.estimator", "group_norm", "--rollout.n_samples_per_prompt", "4"]
GRPO = [*GROUPS, "--reward.remote_url", "reward.py", "--actor.model_name_or_path", "m"]


@pytest.mark.parametrize(("program", "count"), [("ppo", 165), ("sft", 76), ("rm", 78), ("dpo", 81)])
def test_every_option_is_known_with_its_type(program, count):
    options = destinations(program)
    assert len(options) == count
    assert {option.type for option in options.values()} == {"int", "float", "str", "bool"}
    assert all(option.name == name and option.flag == f"--{name}" for name, option in options.items())


def test_some_options_in_full():
    ppo = destinations("ppo")
    assert ppo["actor.adam.betas"].nargs == 2 and ppo["actor.adam.betas"].default == [0.9, 0.95]
    assert ppo["ds.param_dtype"].choices == ("bf16", "fp16", "float32")
    assert ppo["train.colocate_all"].store_true and ppo["train.colocate_all"].default is False
    assert ppo["actor.muon.nesterov"].off_flag == "--actor.muon.no_nesterov"
    assert ppo["logger.wandb.run_name"].default is None  # upstream's holds the time of day
    assert ppo["algo.kl.init_coef"].help


def test_the_committed_copy_is_what_the_installed_source_says():
    assert FROZEN.read_text(encoding="utf-8") == cli.frozen_text(), "python -m openrlhf_ext.upstream.cli --freeze"


def test_the_committed_copy_holds_no_sentence_of_upstream():
    keys = {key for rows in json.loads(FROZEN.read_text())["programs"].values() for row in rows for key in row}
    assert keys <= {"name", "flag", "type", "default", "choices", "nargs", "store_true", "off_flag", "required"}


def test_arguments_arrive_nested_typed_and_completed_by_upstream():
    args = parse("ppo", [*GRPO, "--actor.adam.lr", "1e-6", "--train.colocate_actor_ref", "--rollout.batch_size", "16"])
    assert args.actor.adam.lr == 1e-6 and args.train.colocate_actor_ref is True
    assert args.reward.remote_url == ["reward.py"]
    assert args.rollout.vllm_generate_batch_size == 16
    assert args.actor.eps_clip_low_high == (0.2, 0.2)
    assert args.critic.model_name_or_path is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--actor.adam.lrr", "1"], r"unrecognized arguments: --actor\.adam\.lrr"),
        (["--actor.adam.l", "1"], "unrecognized arguments"),  # no abbreviations
        (["--train.batch_size", "many"], "invalid int value: 'many'"),
        (["--algo.advantage.estimator", "best"], "invalid choice: 'best'"),
        (
            ["--algo.advantage.estimator", "group_norm", "--rollout.n_samples_per_prompt", "1"],
            "n_samples_per_prompt > 1",
        ),
        ([*GRPO, "--actor.num_nodes", "999"], "number of sample batches"),
        (["--algo.advantage.estimator", "gae"], "upstream's own check of these arguments broke"),
    ],
)
def test_upstreams_refusals_come_as_one_error(argv, message):
    with pytest.raises(UpstreamArgumentError, match=message):
        parse("ppo", argv)


def test_what_upstream_prints_comes_as_notes(capsys):
    parsed = parse_with_notes("ppo", [*GRPO, "--algo.kl.use_loss", "--algo.kl.estimator", "k1"])
    assert len(parsed.notes) == 1 and "k1" in parsed.notes[0]
    assert capsys.readouterr().out == ""
    assert parse_with_notes("ppo", [*GRPO, "--algo.kl.use_loss", "--algo.kl.estimator", "k3"]).notes == ()


@pytest.mark.parametrize("program", PROGRAMS)
def test_float32_is_a_precision(program):
    argv = GRPO if program == "ppo" else []
    assert parse(program, [*argv, "--ds.param_dtype", "float32"]).ds.param_dtype == "float32"
    with pytest.raises(UpstreamArgumentError, match="invalid choice"):
        parse(program, [*argv, "--ds.param_dtype", "float64"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_openrlhf_the_committed_copy_parses_the_same(program, monkeypatch):
    def flat(node, prefix=""):
        for key, value in vars(node).items():
            yield from flat(value, f"{prefix}{key}.") if hasattr(value, "__dict__") else [(prefix + key, value)]

    argv = GRPO if program == "ppo" else []
    lifted = dict(flat(parse(program, [*argv, "--ds.zero_stage", "3"])))
    known = list(destinations(program))
    monkeypatch.setattr(cli, "installed", lambda: False)
    frozen = parse_with_notes(program, [*argv, "--ds.zero_stage", "3"])
    assert frozen.notes == ("openrlhf 0.11.2 is not installed here: its own checks were not run",)
    completed = {  # by upstream's checks, which the copy does not have, or by the clock
        "actor.eps_clip_low_high",
        "logger.wandb.run_name",
        "reward.remote_url",
        "rollout.vllm_generate_batch_size",
    }
    for name, value in flat(frozen.args):
        expected = list(lifted[name]) if isinstance(lifted[name], tuple) else lifted[name]
        assert value == expected or name in completed, name
    assert list(destinations(program)) == known
    with pytest.raises(UpstreamArgumentError, match="unrecognized arguments"):
        parse(program, ["--nothing.like.it", "1"])


def test_parsing_imports_nothing_heavy():
    heavy = ["torch", "ray", "vllm", "transformers", "deepspeed", "numpy", "openrlhf"]
    code = (
        "import sys; from openrlhf_ext.upstream import cli\n"
        f"cli.parse('ppo', {GRPO}); [cli.destinations(p) for p in cli.PROGRAMS]\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
