"""Rules of the reverse curriculum: its modes, its critic, its dev split and its test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_ext.config.check import check, errors, notes
from openrlhf_ext.config.load import ConfigError

MODE, BUDGETS = "reverse_curriculum.mode", "reverse_curriculum.budgets"


def where(problems) -> list[str]:
    return [problem.where.split(" (")[0] for problem in problems]


def refused(call) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        call()
    return {problem.where: problem.what for problem in error.value.problems}


@pytest.mark.parametrize("mode", ["mixed", "staged", "plain", "adaptive"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_valid_requests_have_no_problems(reverse, mode, device):
    assert check(reverse({MODE: mode}, device)) == []


def test_the_method_is_ppo_with_a_critic_that_starts_as_the_policy(reverse):
    resolved = reverse({"actor.num_gpus_per_node": "2"}, "cuda")
    args = resolved.upstream_args()
    assert (args.algo.advantage.estimator, args.algo.advantage.lambd, args.algo.advantage.gamma) == ("gae", 0.95, 1.0)
    assert (args.algo.kl.use_loss, args.algo.kl.estimator) == (False, "k1")
    assert args.critic.model_name_or_path == args.actor.model_name_or_path == "a-model"
    assert (args.critic.num_nodes, args.critic.num_gpus_per_node) == (1, 2)
    assert args.critic.value_clip == 0.2
    assert args.rollout.n_samples_per_prompt == 1


def test_its_keys_stand_in_its_namespace(reverse, grpo, sft):
    assert reverse().own_key("max_steps") == "reverse_curriculum.max_steps"
    assert grpo().own_key("max_steps") == "grpo.max_steps"
    assert reverse().get(reverse().own_key("final_temperature")) is None
    assert "grpo.max_momentum (command line)" in refused(lambda: reverse({"grpo.max_momentum": "0.2"}))
    for other in (grpo, sft):
        assert f"{MODE} (command line)" in refused(lambda other=other: other({MODE: "mixed"}))


MISTAKES = [
    ("algo.advantage.estimator", "group_norm"),
    ("algo.advantage.estimator", "reinforce"),
    ("algo.advantage.lambd", "1.5"),
    ("algo.advantage.lambd", "-0.1"),
    ("algo.advantage.gamma", "1.1"),
    ("critic.adam.lr", "0"),
    ("critic.adam.weight_decay", "1"),
    ("critic.lr_scheduler", "reduce_lr_on_plateau"),
    ("critic.lr_warmup_ratio", "2"),
    ("critic.max_norm", "-1"),
    ("critic.num_gpus_per_node", "0"),
    ("critic.num_gpus_per_node", "3"),
    ("critic.num_nodes", "0"),
    ("critic.value_clip", "0"),
    ("reverse_curriculum.adaptive_floor", "0"),
    ("reverse_curriculum.adaptive_floor", "1.01"),
    ("reverse_curriculum.adaptive_memory", "0.5"),
    ("reverse_curriculum.max_steps", "0"),
    ("eval.steps", "5"),  # without eval.dataset
    ("evaluation.keep_best", "true"),
    ("evaluation.test_dataset", "test.jsonl"),
    ("rollout.max_new_tokens", "2048"),
    ("train.batch_size", "24"),
]


@pytest.mark.parametrize(("key", "text"), MISTAKES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_mistake_is_found_at_its_key(reverse, key, text, device):
    # Keys of one mode are judged in that mode.
    changes = {MODE: "adaptive"} if "adaptive" in key else {}
    found = errors(check(reverse(changes | {key: text}, device)))
    assert key in where(found)
    assert all(problem.fix for problem in found)


def test_another_estimator_says_which(reverse):
    found = errors(check(reverse({"algo.advantage.estimator": "group_norm"})))
    (problem,) = [p for p in found if p.where.startswith("algo.advantage.estimator")]
    assert "reverse-curriculum makes its advantages by gae, not by group_norm" in problem.what
    assert problem.fix == "--algo.advantage.estimator gae"


def test_grpo_has_no_generalised_advantages(grpo):
    (problem,) = [p for p in errors(check(grpo({"algo.advantage.estimator": "gae"}))) if "estimator" in p.where]
    assert "by group_norm, not by gae" in problem.what


def test_unknown_modes_are_refused(reverse):
    found = refused(lambda: reverse({MODE: "random"}))
    assert "mixed, staged, plain, adaptive" in found[f"{MODE} (command line)"]


def test_budgets_are_whole_numbers_for_each_stage(reverse, tmp_path):
    staged = {MODE: "staged"}
    assert reverse(staged | {BUDGETS: "8,16,32"}).reverse_curriculum.budgets == [8, 16, 32]
    assert reverse(staged | {BUDGETS: "[8, 16, 32]"}).reverse_curriculum.budgets == [8, 16, 32]
    assert reverse(staged | {BUDGETS: "8"}).reverse_curriculum.budgets == [8]
    assert reverse(staged | {BUDGETS: "null"}).reverse_curriculum.budgets is None
    assert reverse(staged).reverse_curriculum.budgets is None
    for text in ("8,many", "8,,16", "1.5,2"):
        assert f"{BUDGETS} (command line)" in refused(lambda text=text: reverse(staged | {BUDGETS: text}))
    path = tmp_path / "run.yaml"
    for written in ("[8, 16, 32]", "8,16,32", "\n    - 8\n    - 16\n    - 32"):
        path.write_text(f"reverse_curriculum:\n  mode: staged\n  budgets: {written}\n")
        assert reverse(path=str(path)).reverse_curriculum.budgets == [8, 16, 32], written
    assert reverse({BUDGETS: "1,2"}, path=str(path)).reverse_curriculum.budgets == [1, 2]


def test_the_dump_gives_the_same_run_again(reverse, tmp_path):
    first = reverse({MODE: "staged", BUDGETS: "8,0,32", "reverse_curriculum.whiten": "false", "critic.adam.lr": "3e-6"})
    path = tmp_path / "config.yaml"
    path.write_text(first.dump())
    again = reverse(path=str(path))
    assert again.reverse_curriculum == first.reverse_curriculum
    assert again.upstream_args().critic == first.upstream_args().critic
    assert errors(check(again)) == []


def test_budgets_have_an_effect_in_staged_mode_alone(reverse):
    assert check(reverse({MODE: "staged", BUDGETS: "8,0,32"})) == []
    for mode in ("mixed", "plain", "adaptive"):
        (note,) = check(reverse({MODE: mode, BUDGETS: "8,16,32"}))
        assert note.note
        assert (where([note]), note.what) == ([BUDGETS], f"has no effect in mode {mode}")


@pytest.mark.parametrize("text", ["-1,2", "0,0,0", "8,-16,32"])
def test_budgets_that_are_none(reverse, text):
    (problem,) = errors(check(reverse({MODE: "staged", BUDGETS: text})))
    assert where([problem]) == [BUDGETS]
    assert str([int(part) for part in text.split(",")]) in problem.what


@pytest.mark.parametrize(
    ("key", "text"), [("reverse_curriculum.adaptive_floor", "0.5"), ("reverse_curriculum.adaptive_memory", "32")]
)
def test_adaptive_keys_have_an_effect_in_adaptive_mode_alone(reverse, key, text):
    assert check(reverse({MODE: "adaptive", key: text})) == []
    for mode in ("mixed", "staged", "plain"):
        (note,) = check(reverse({MODE: mode, key: text}))
        assert note.note
        assert (where([note]), note.what) == ([key], f"has no effect in mode {mode}")


CRITIC_KEYS = [
    ("critic.adam.lr", "1e-3"),
    ("critic.lr_scheduler", "constant"),
    ("critic.value_clip", "0.3"),
    ("critic.model_name_or_path", "another-model"),
    ("algo.advantage.lambd", "0.9"),
]


@pytest.mark.parametrize(("key", "text"), CRITIC_KEYS)
def test_keys_of_the_critic_have_an_effect_where_there_is_one(reverse, grpo, key, text):
    assert check(reverse({key: text})) == []
    (note,) = check(grpo({key: text}))
    assert note.note
    assert where([note]) == [key]
    assert note.what.startswith("has no effect")


def test_the_critic_may_warm_up_alone_where_there_is_one(reverse, grpo):
    assert errors(check(reverse({"critic.freezing_steps": "5"}))) == []
    assert "critic.freezing_steps" in where(errors(check(grpo({"critic.freezing_steps": "5"}))))


def test_what_stays_without_effect(reverse):
    assert where(notes(check(reverse({"reward.model_name_or_path": "rm"})))) == ["reward.model_name_or_path"]
    assert where(notes(check(reverse({"critic.save_value_network": "true"})))) == ["critic.save_value_network"]
    assert where(notes(check(reverse({"algo.kl.init_coef": "0", "ref.num_nodes": "2"})))) == ["ref.num_nodes"]


def test_muon_with_clipping_is_refused_for_the_critic_too(reverse):
    found = errors(check(reverse({"critic.optim": "muon", "critic.max_norm": "1"})))
    assert "critic.max_norm" in where(found)
    assert "critic.max_norm" not in where(errors(check(reverse({"critic.optim": "muon", "critic.max_norm": "0"}))))


SHARED = {"train.colocate_all": "true", "vllm.gpu_memory_utilization": "0.4", "vllm.num_engines": "2"}


def test_a_critic_that_shares_gpus_is_as_large_as_the_policy(reverse):
    two = SHARED | {"actor.num_gpus_per_node": "2"}
    assert errors(check(reverse(two, "cuda"))) == []
    (problem,) = errors(check(reverse(two | {"critic.num_gpus_per_node": "1"}, "cuda")))
    assert where([problem]) == ["critic.num_gpus_per_node"]
    assert "policy (1 x 2) and critic (1 x 1) share GPUs" in problem.what
    apart = {"actor.num_gpus_per_node": "2", "critic.num_gpus_per_node": "1"}
    assert errors(check(reverse(apart, "cuda"))) == []
    assert errors(check(reverse(apart | {"train.colocate_actor_ref": "true"}, "cuda"))) == []


def test_a_critic_of_its_own_size_divides_the_batch_too(reverse):
    (problem,) = errors(check(reverse({"critic.num_gpus_per_node": "3"})))
    assert "3 critic ranks: 32 is not a multiple of 24" in problem.what
    # 4 ranks of 8: one update of 32 is fine, four forward batches of 8 are too.
    assert errors(check(reverse({"critic.num_gpus_per_node": "4"}))) == []
    # 8 ranks: 64 samples would be needed
    assert where(errors(check(reverse({"critic.num_gpus_per_node": "8"})))) == ["critic.num_gpus_per_node"]


def test_the_policys_own_arithmetic_is_said_once(reverse):
    found = errors(check(reverse({"train.batch_size": "24"})))
    assert where(found) == ["train.batch_size"]


DEV = {"eval.dataset": "data/dev.jsonl", "eval.steps": "5"}


def test_a_best_model_needs_a_dev_split(reverse):
    assert check(reverse(DEV | {"evaluation.keep_best": "true", "evaluation.test_dataset": "data/test.jsonl"})) == []
    for key, text in (("evaluation.keep_best", "true"), ("evaluation.test_dataset", "data/test.jsonl")):
        (problem,) = check(reverse({key: text}))
        assert not problem.note
        assert where([problem]) == [key]
        assert "no eval.dataset" in problem.what


@pytest.mark.parametrize("same", ["data/dev.jsonl", "./data/dev.jsonl", "data//dev.jsonl", "data/x/../dev.jsonl"])
def test_the_test_set_is_not_what_chooses(reverse, same):
    (problem,) = check(reverse(DEV | {"evaluation.test_dataset": same}))
    assert not problem.note
    assert where([problem]) == ["evaluation.test_dataset"]
    assert "must not be the test set" in problem.what


def test_the_same_file_by_its_full_path_is_the_same_file(reverse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (problem,) = check(reverse(DEV | {"evaluation.test_dataset": str(Path("data/dev.jsonl").absolute())}))
    assert where([problem]) == ["evaluation.test_dataset"]


def test_a_best_of_two_evaluations_is_remarked_on(reverse):
    (note,) = check(reverse({"eval.dataset": "dev.jsonl", "evaluation.keep_best": "true"}))
    assert note.note
    assert where([note]) == ["evaluation.keep_best"]
