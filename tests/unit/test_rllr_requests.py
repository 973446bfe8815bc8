"""Requests of `train rllr`: what is refused, what is remarked on, who sits where, and the shipped configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openrlhf_ext.cluster import Cluster
from openrlhf_ext.config.check import check, errors, notes
from openrlhf_ext.config.load import load
from openrlhf_ext.config.problem import Problem
from openrlhf_ext.config.resolved import Resolved
from openrlhf_ext.evaluate.reward_diagnostics import diagnose
from openrlhf_ext.plan import make_plan
from openrlhf_ext.preflight import preflight, read_inputs
from openrlhf_ext.prepare.tiny_model import build_tiny_model
from openrlhf_ext.record.reward_scale import write_scale

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`policy`, `label` and `rationale` of one tokenizer, `stranger` with another, `headless` without a value head."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"layers": 1, "hidden": 64, "heads": 2, "context": 64}
    for name in ("policy", "label", "rationale", "headless", "stranger"):
        task = "label-toy" if name != "stranger" else "chain"
        build_tiny_model(folder / name, task=task, **shape)  # type: ignore[arg-type]
        if name in ("label", "rationale", "stranger"):
            config = folder / name / "config.json"
            config.write_text(json.dumps(json.loads(config.read_text()) | {"value_head_prefix": "score"}))
    rows = [{"input": f"{i}\n", "label": '{"label": "food", "word": "soup"}'} for i in range(64)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def request(models: Path, **settings: object) -> Resolved:
    plain: dict[str, object] = {
        "run.device": "cpu",
        "run.dir": models / "run",
        "task.name": "label-toy",
        "rllr.label_model": models / "label",
        "rllr.rationale_model": models / "rationale",
        "rllr.tau": 2,
        "rllr.max_steps": 2,
        "actor.model_name_or_path": models / "policy",
        "data.prompt_dataset": models / "prompts.jsonl",
        "data.max_len": 64,
        "rollout.batch_size": 16,
        "rollout.micro_batch_size": 16,
        "rollout.max_new_tokens": 16,
        "train.batch_size": 16,
        "train.micro_batch_size": 16,
    } | {key.replace("__", "."): value for key, value in settings.items()}
    words = [
        (key, "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
        for key, value in plain.items()
    ]
    return load("rllr", None, words)


def found(resolved: Resolved) -> list[Problem]:
    inputs = read_inputs(resolved)
    plan = make_plan(resolved, "cpu", rows=inputs.rows, model=inputs.model, cores=2)
    return check(resolved) + preflight(resolved, plan, inputs=inputs, dry_run=True)


def about(problems: list[Problem], key: str) -> list[str]:
    return [problem.what for problem in problems if problem.where.startswith(key)]


def test_a_sound_request_has_no_errors(models: Path) -> None:
    assert errors(found(request(models))) == []


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"rllr__label_model": None}, "rllr.label_model", "not set"),
        ({"rllr__rationale_model": None}, "rllr.rationale_model", "not set"),
        ({"rllr__weight": -1}, "rllr.weight", "would cost"),
        ({"rllr__format_penalty": -1}, "rllr.format_penalty", "paid for it"),
        ({"algo__kl__target": 6}, "algo.kl.target", "per token"),
        ({"rllr__kl_target": 0}, "rllr.kl_target", "not above 0"),
        ({"rllr__kl_horizon": 3}, "rllr.kl_horizon", "could fall to 0"),
        ({"reward__normalize_enable": True}, "reward.normalize_enable", "stay out"),
        ({"algo__advantage__estimator": "group_norm"}, "algo.advantage.estimator", "gae"),
        ({"ds__lora__rank": 8}, "ds.lora.rank", "cannot be synced"),
    ],
)
def test_what_the_values_themselves_rule_out(models: Path, settings: dict, key: str, words: str) -> None:
    problems = errors(check(request(models, **settings)))
    assert any(words in what for what in about(problems, key)), problems


def test_the_reward_models_are_looked_at(models: Path) -> None:
    for role in ("label", "rationale"):
        key = f"rllr.{role}_model"
        for model, words in {
            "nowhere": "no such folder",
            "headless": "no value head",
            "stranger": "tokenizer is not that of",
        }.items():
            problems = errors(found(request(models, **{key: models / model})))
            assert any(words in what for what in about(problems, key)), (model, problems)
    same = errors(check(request(models, rllr__rationale_model=models / "label")))
    assert any("counted twice" in what for what in about(same, "rllr.rationale_model"))


def test_models_that_the_arm_does_not_need_are_not_looked_at(models: Path) -> None:
    for arm, key in (("label", "rllr.rationale_model"), ("rationale", "rllr.label_model")):
        problems = found(request(models, rllr__reward=arm, rllr__tau=None, **{key: models / "nowhere"}))
        assert errors(problems) == []
        assert about(notes(problems), key) == [f"has no effect in the arm {arm}"]
    resolved = request(
        models, rllr__reward="exact-match", rllr__label_model=None, rllr__rationale_model=None, rllr__tau=None
    )
    assert errors(found(resolved)) == []


def test_tau_is_taken_from_the_model_or_asked_for(models: Path, tmp_path: Path) -> None:
    import shutil

    problems = errors(found(request(models, rllr__tau=None)))
    assert any("reward_scale.json" in what for what in about(problems, "rllr.label_model"))
    measured = tmp_path / "measured"
    shutil.copytree(models / "label", measured)
    write_scale(measured, diagnose([1.0, 2.0, 3.0], [0.0, 0.5, -1.0]).scale)
    assert errors(found(request(models, rllr__tau=None, rllr__label_model=measured))) == []
    beyond = notes(found(request(models, rllr__tau=3.5, rllr__label_model=measured)))
    assert any("beyond every score" in what for what in about(beyond, "rllr.tau"))
    below = notes(found(request(models, rllr__tau=2.5, rllr__label_model=measured)))
    assert about(below, "rllr.tau") == []
    both = errors(found(request(models, rllr__label_model=measured, rllr__standardise=True)))
    assert about(both, "rllr.label_model") == []
    assert any("standardise needs" in what for what in about(both, "rllr.rationale_model"))
    write_scale(measured, diagnose([0.0, 0.0], [1.0, 1.0]).scale)
    worse = notes(found(request(models, rllr__label_model=measured)))
    assert any("worse than a coin" in what for what in about(worse, "rllr.label_model"))


@pytest.mark.parametrize(
    ("arm", "groups", "critic"),
    [
        ("mixed", ["label_reward", "rationale_reward"], "label"),
        ("label", ["label_reward"], "label"),
        ("rationale", ["rationale_reward"], "rationale"),
        ("exact-match", [], None),
    ],
)
def test_every_arm_has_its_groups_and_its_critic(models: Path, arm: str, groups: list[str], critic: str | None) -> None:
    resolved = request(models, rllr__reward=arm)
    plan = make_plan(resolved, "cpu", rows=64, cores=2)
    assert [group.name for group in plan.groups] == ["actor", "critic", "ref", *groups]
    assert len({group.bundle_set for group in plan.groups if group.name.endswith("_reward")}) == len(groups)
    path = resolved.get("critic.model_name_or_path")
    assert path == (str(models / critic) if critic else None)


def test_reward_models_may_share_the_critics_place_or_everything(models: Path) -> None:
    plan = make_plan(request(models, train__colocate_critic_reward=True), "cpu", rows=64, cores=2)
    assert {g.bundle_set for g in plan.groups if g.name.endswith("_reward")} == {"critic"}
    settings = {
        "run__device": "cuda",
        "train__colocate_all": True,
        "actor__num_gpus_per_node": 2,
        "vllm__num_engines": 2,
    }
    shared = make_plan(request(models, **settings), "cuda", rows=64, cores=8)
    assert {g.bundle_set for g in shared.groups} == {"train"}
    booked = sum(g.gpu for g in shared.groups) + shared.engines[0].gpu
    assert booked <= 1.0, "six tenants of one GPU"
    assert shared.problems(Cluster.of("1x2")) == []


@pytest.mark.parametrize(
    ("model", "tau", "batch"),
    [
        ("llama2-7b", 3.9, 16),
        ("llama2-13b", 6.2, 16),
        ("mistral", 4.4, 32),
        ("chatglm3", 3.7, 32),
        ("baichuan2-7b", 3.1, 32),
        ("bloom7b", 4.4, 32),
        ("bloom3b", 1.0, 32),
    ],
)
def test_the_presets_are_the_public_codes_numbers(model: str, tau: float, batch: int) -> None:
    resolved = load("rllr", None, [("rllr.preset", model)])
    wanted = {
        "rllr.tau": tau,
        "rllr.weight": 1.0,
        "rllr.kl_target": 6.0,
        "rllr.kl_horizon": 10000.0,
        "algo.kl.init_coef": 0.2,
        "algo.kl.estimator": "k1",
        "algo.kl.use_loss": False,
        "algo.advantage.gamma": 1.0,
        "algo.advantage.lambd": 0.95,
        "actor.eps_clip": 0.2,
        "critic.value_clip": 0.2,
        "actor.adam.lr": 5e-6,
        "actor.lr_scheduler": "cosine",
        "actor.lr_warmup_ratio": 0.0,
        "actor.max_norm": 1.0,
        "actor.loss_agg_mode": "token-mean",
        "rollout.batch_size": batch,
        "train.batch_size": batch,
        "train.max_epochs": 1,
        "rollout.temperature": 1.0,
        "rollout.top_p": 1.0,
        "rollout.max_new_tokens": 256,
        "data.max_len": 1536,
    }
    assert {key: resolved.get(key) for key in wanted} == wanted


def test_the_paper_configs_pass_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    from openrlhf_ext import cli

    for method, name in (("sft", "sft_rllr"), ("rm", "rm_rllr"), ("rllr", "rllr_sst2")):
        words = ["train", method, "--config", str(CONFIGS / f"{name}_paper.yaml"), "--dry-run", "--cluster", "1x8"]
        if method == "rllr":
            words += ["--rllr.tau", "3.9"]
        assert cli.main(words) == 0, capsys.readouterr().err
