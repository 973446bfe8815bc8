"""The reverse curriculum in the shared loop: every mode goes on after a kill as if there had been none, and the best model is kept."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from openrlhf_ext.checkpoint import latest_checkpoint
from openrlhf_ext.config.schema import ReverseCurriculum
from openrlhf_ext.evaluate.heldout import HeldOut
from openrlhf_ext.methods.reverse_curriculum import StartStates
from openrlhf_ext.methods.reverse_curriculum_maker import ReverseCurriculumExperienceMaker
from openrlhf_ext.record.run_dir import read_events
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.source import SamplingOptions
from openrlhf_ext.tasks import make_task
from tests.wiring import loop
from tests.wiring.loop import LABEL, STEPS, Killed, comparable, kill_at, problem_ids, state

pytestmark = pytest.mark.usefixtures("ray_without_a_cluster")

BATCH, SAMPLES, ROWS = 4, 2, 20
STAGE = {0: 0, 1: 0, 2: 1, 3: 1, 4: 2}
"""Stage of a row, by its number modulo 5. The played engine answers rows 2 and 4 right in one of two samples, the others never."""
SIZES = {0: 8, 1: 8, 2: 4}
BUDGETS = [8, 5, 7]

MODES = {
    "mixed": ReverseCurriculum(mode="mixed"),
    "staged": ReverseCurriculum(mode="staged", budgets=BUDGETS),
    "plain": ReverseCurriculum(mode="plain"),
    "adaptive": ReverseCurriculum(mode="adaptive", adaptive_memory=8.0),
}


def run(
    folder: Path,
    options: ReverseCurriculum = MODES["mixed"],
    total: int | None = None,
    freezing: int = -1,
    **more: object,
) -> tuple:
    """A run over 20 start states, 4 in a step with two answers each; the policy stands still in steps 1 to ``freezing`` + 1."""
    return loop.run(
        folder,
        options=SamplingOptions(1.0, 1.0, 4, 1, SAMPLES, 16),
        prompts=[Prompt(i, str(i), LABEL, f"stage_{STAGE[i % 5]}") for i in range(ROWS)],
        method=StartStates(options, total),
        maker_class=ReverseCurriculumExperienceMaker,
        critic=True,
        arguments={
            "rollout__batch_size": BATCH,
            "algo__advantage__estimator": "gae",
            "algo__advantage__gamma": 1.0,
            "algo__advantage__lambd": 0.95,
            "algo__kl__use_loss": False,
            "algo__kl__estimator": "k1",
            "critic__freezing_steps": freezing,
        },
        **more,
    )


def stages(folder: Path) -> list[list[int]]:
    """Stages of the start states of every step, in order."""
    return [[STAGE[i % 5] for i in ids] for ids in problem_ids(folder).values()]


def kinds(folder: Path, kind: str) -> list[dict]:
    """The events of a kind without their time."""
    return [{k: v for k, v in e.items() if k not in ("time", "kind")} for e in read_events(folder) if e["kind"] == kind]


# In step 3, while the critic learns in step 2, before the critic's part of the save of step 4, before the sync of step 5.
KILLS = [("generate", 10), ("critic fit", 2), ("critic save_state", 2), ("sync_engines", 5)]


@pytest.mark.parametrize("save_every", [1, 2])
@pytest.mark.parametrize(("where", "time"), KILLS)
@pytest.mark.parametrize("mode", ["mixed", "staged", "adaptive"])
def test_a_run_killed_anywhere_and_resumed_equals_one_that_was_not(
    tmp_path: Path, mode: str, where: str, time: int, save_every: int
) -> None:
    whole, policy, _ = run(tmp_path / "whole", MODES[mode], save_every=save_every)
    with pytest.raises(Killed):
        run(tmp_path / "killed", MODES[mode], before=kill_at(where, time), save_every=save_every)
    assert 0 < len(comparable(tmp_path / "killed")) < STEPS
    resumed, later, _ = run(tmp_path / "killed", MODES[mode], resume=True, save_every=save_every)
    assert problem_ids(tmp_path / "killed") == problem_ids(tmp_path / "whole")
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")
    critics = [trainer.critic_model_group.updates for trainer in (resumed, whole)]
    assert critics == [later.updates, policy.updates] == [STEPS, STEPS]


def test_a_resumed_run_trains_with_the_critic_of_its_checkpoint(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", before=kill_at("generate", 4 * BATCH + 1))
    saved = latest_checkpoint(tmp_path / "killed" / "checkpoints")
    assert {json.loads((saved / name).read_text())["updates"] for name in ("policy.json", "critic.json")} == {4}
    (saved / "critic.json").write_text(
        '{"updates": 0}'
    )  # the control: a critic that starts anew gives other advantages
    run(tmp_path / "killed", resume=True)
    losses = [[row["train/policy_loss"] for row in comparable(tmp_path / name)[4:]] for name in ("killed", "whole")]
    assert all(abs(ours - theirs) > 0.01 for ours, theirs in zip(*losses, strict=True))
    run(tmp_path / "again")
    assert losses[1] == [row["train/policy_loss"] for row in comparable(tmp_path / "again")[4:]]


def test_a_kill_between_the_saves_of_policy_and_critic_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    folder, torn = tmp_path / "run" / "checkpoints", tmp_path / "torn"
    kill = kill_at("critic save_state", 2)

    def before(name: str) -> None:
        try:
            kill(name)
        except Killed:
            shutil.copytree(folder / "step_000004.tmp", torn)
            raise

    with pytest.raises(Killed):
        run(tmp_path / "run", before=before)
    shutil.copytree(torn, folder / "step_000004.tmp")  # a real SIGKILL would have removed nothing
    assert sorted(path.name for path in torn.iterdir()) == ["policy.json"]
    assert latest_checkpoint(folder) == folder / "step_000002"
    run(tmp_path / "run", resume=True)
    run(tmp_path / "whole")
    assert comparable(tmp_path / "run") == comparable(tmp_path / "whole")
    assert not list(folder.glob("*.tmp"))


def test_staged_spends_its_budgets_to_the_start_state(tmp_path: Path) -> None:
    run(tmp_path / "run", MODES["staged"])
    # 7 of stage 2, 5 of stage 1, then the question: a border inside step 2, one between steps 3 and 4.
    assert stages(tmp_path / "run") == [[2] * 4, [2] * 3 + [1], [1] * 4, [0] * 4, [0] * 4, [0] * 4]
    rows = comparable(tmp_path / "run")
    assert [row["rollout/stage"] for row in rows] == [2, 1, 0, 0, 0, 0]  # where the next start state comes from
    assert [row["rollout/stage_2/samples"] for row in rows[:2]] == [8.0, 6.0]
    assert rows[1]["rollout/stage_1/samples"] == 2.0
    assert "rollout/stage_2/samples" not in rows[2]
    assert [row["rollout/stage_0/correct"] for row in rows[3:]] == [0.0] * 3
    assert [row["rollout/stage_2/correct"] for row in rows[:2]] == [0.5] * 2


def test_without_budgets_the_stages_share_the_run(tmp_path: Path) -> None:
    run(tmp_path / "run", ReverseCurriculum(mode="staged"), total=STEPS * BATCH)
    assert Counter(stage for step in stages(tmp_path / "run") for stage in step) == {0: 8, 1: 8, 2: 8}


def test_plain_uses_the_questions_alone(tmp_path: Path) -> None:
    run(tmp_path / "run", MODES["plain"])
    assert stages(tmp_path / "run") == [[0] * BATCH] * STEPS
    ids = [i for step in problem_ids(tmp_path / "run").values() for i in step]
    assert set(Counter(ids).values()) == {3}, "24 start states are three passes over the 8 questions"
    assert all("rollout/stage_1/samples" not in row for row in comparable(tmp_path / "run"))


def test_mixed_uses_every_row_once_before_any_twice(tmp_path: Path) -> None:
    run(tmp_path / "run")
    ids = [i for step in problem_ids(tmp_path / "run").values() for i in step]
    assert sorted(ids[:ROWS]) == list(range(ROWS))
    for row, step in zip(comparable(tmp_path / "run"), stages(tmp_path / "run"), strict=True):
        counted = {s: row.get(f"rollout/stage_{s}/samples", 0.0) / SAMPLES for s in SIZES}
        assert counted == {s: float(step.count(s)) for s in SIZES}


def test_adaptive_follows_what_the_samples_earned(tmp_path: Path) -> None:
    trainer, _, _ = run(tmp_path / "run", MODES["adaptive"])
    shares = [[row[f"rollout/stage_{s}/share"] for s in SIZES] for row in comparable(tmp_path / "run")]
    assert all(sum(row) == pytest.approx(1.0) for row in shares)
    # Stage 2 is right every second time, stage 1 sometimes, stage 0 never: p (1 - p) orders them.
    assert shares[-1][2] > shares[-1][1] > shares[-1][0] > MODES["adaptive"].adaptive_floor / 3
    assert shares[0] != shares[-1]
    kept = state(tmp_path / "run")["stream"]["schedule"]
    assert kept == trainer.stream.schedule.state_dict()
    assert kept["success"][0] < 0.2 < kept["success"][2]


@pytest.mark.parametrize(("before", "after"), [("adaptive", "staged"), ("mixed", "adaptive"), ("staged", "plain")])
def test_a_run_goes_on_in_its_mode_only(tmp_path: Path, before: str, after: str) -> None:
    run(tmp_path / "run", MODES[before], steps=2)
    with pytest.raises(
        ValueError, match=f"written in mode {before}, this run is in mode {after}: resume with the same"
    ):
        run(tmp_path / "run", MODES[after], resume=True, steps=4)
    run(tmp_path / "run", MODES[before], resume=True, steps=4)


def test_a_staged_run_goes_on_with_its_budgets_only(tmp_path: Path) -> None:
    run(tmp_path / "run", MODES["staged"], steps=2)
    with pytest.raises(ValueError, match="resume with the same"):
        run(tmp_path / "run", ReverseCurriculum(mode="staged", budgets=[8, 5, 6]), resume=True, steps=4)


def test_whitening_is_the_users_choice(tmp_path: Path) -> None:
    for whiten in (True, False):
        trainer, _, _ = run(tmp_path / str(whiten), ReverseCurriculum(whiten=whiten))
        assert trainer.experience_maker.whiten_advantages is whiten
    with_it, without = (comparable(tmp_path / name)[0]["train/policy_loss"] for name in ("True", "False"))
    assert with_it != without


def test_while_the_critic_warms_up_the_policy_gathers_nothing(tmp_path: Path) -> None:
    trainer, policy, _ = run(tmp_path / "warm", freezing=2)
    assert (policy.updates, trainer.critic_model_group.updates) == (STEPS - 3, STEPS)
    rows = comparable(tmp_path / "warm")
    assert ["train/policy_loss" in row for row in rows] == [False] * 3 + [True] * 3
    run(tmp_path / "whole")  # the same samples and the same critic: the same advantages in every step
    for row, other in list(zip(rows, comparable(tmp_path / "whole"), strict=True))[3:]:
        assert row["train/policy_loss"] == other["train/policy_loss"]
    with pytest.raises(Killed):
        run(tmp_path / "killed", freezing=2, before=kill_at("generate", 3 * BATCH - 1))
    run(tmp_path / "killed", freezing=2, resume=True)
    assert comparable(tmp_path / "killed") == rows


def held_out(name: str = "chain", first: int = 0) -> HeldOut:
    return HeldOut(
        name, [Prompt(i, str(i), LABEL, name) for i in range(first, first + 4)], make_task({"name": "chain"})
    )


def reaches(counts: dict[int, int], otherwise: dict[int, int] | None = None) -> Callable[[int, int], bool]:
    """``counts``: updates -> how many of prompts 0 to 3 are answered; ``otherwise``: of prompts 100 to 103."""

    def right(prompt: int, updates: int) -> bool:
        table = counts if prompt < 100 else (otherwise or {})
        return prompt % 100 < table[updates]

    return right


def exported(folder: Path) -> str:
    return (folder / "best" / "model.safetensors").read_text()


RISING = {0: 2, 2: 2, 4: 3, 6: 3}
"""Accuracies .5, .5, .75, .75 at steps 0, 2, 4, 6."""


def test_the_best_model_is_exported_where_accuracy_strictly_rises(tmp_path: Path) -> None:
    _, policy, _ = run(tmp_path / "run", heldout=[held_out()], right=reaches(RISING), eval_every=2, keep_best=True)
    assert kinds(tmp_path / "run", "best") == [{"step": 0, "accuracy": 0.5}, {"step": 4, "accuracy": 0.75}]
    assert exported(tmp_path / "run") == "4"
    assert policy.calls.count("save_hf") == 1


def test_the_start_model_may_stay_the_best_and_is_not_copied(tmp_path: Path) -> None:
    falling = {0: 3, 2: 2, 4: 3, 6: 0}
    run(tmp_path / "run", heldout=[held_out()], right=reaches(falling), eval_every=2, keep_best=True)
    assert kinds(tmp_path / "run", "best") == [{"step": 0, "accuracy": 0.75}]
    assert not (tmp_path / "run" / "best").exists()


def test_nothing_is_kept_unasked(tmp_path: Path) -> None:
    run(tmp_path / "run", heldout=[held_out()], right=reaches(RISING), eval_every=2)
    assert kinds(tmp_path / "run", "best") == []
    assert not (tmp_path / "run" / "best").exists()


@pytest.mark.parametrize(("where", "time"), [("generate", 30), ("half exported", 1), ("save_state", 2)])
def test_the_best_survives_a_kill(tmp_path: Path, where: str, time: int) -> None:
    """In step 5, in the export of step 4, between that export and the save of step 4."""
    asked = {"heldout": [held_out()], "right": reaches(RISING), "eval_every": 2, "keep_best": True}
    with pytest.raises(Killed):
        run(tmp_path / "run", before=kill_at(where, time), **asked)
    _, later, _ = run(tmp_path / "run", resume=True, **asked)
    assert exported(tmp_path / "run") == "4"
    assert later.calls.count("save_hf") == (1 if where == "half exported" else 0), "an equal accuracy is no better"
    assert kinds(tmp_path / "run", "best") == [{"step": 0, "accuracy": 0.5}, {"step": 4, "accuracy": 0.75}]
    assert not (tmp_path / "run" / "best.tmp").exists()
    run(tmp_path / "whole", **asked)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "whole")
    assert state(tmp_path / "run") == state(tmp_path / "whole")


@pytest.mark.parametrize("save_every", [3, 6])
def test_a_best_that_no_checkpoint_knows_is_not_replaced_by_a_worse_one(tmp_path: Path, save_every: int) -> None:
    """On a GPU the steps after a resume need not repeat those that were lost; what was exported in them stays the best."""
    asked = {"heldout": [held_out()], "eval_every": 2, "keep_best": True, "save_every": save_every}
    with pytest.raises(Killed):  # in step 5: the last checkpoint is of step 3, or there is none
        run(tmp_path / "run", before=kill_at("generate", 30), right=reaches({0: 1, 2: 1, 4: 3}), **asked)
    run(tmp_path / "run", resume=True, right=reaches({0: 1, 2: 1, 4: 1, 6: 2}), **asked)
    assert exported(tmp_path / "run") == "4"
    assert kinds(tmp_path / "run", "best") == [{"step": 0, "accuracy": 0.25}, {"step": 4, "accuracy": 0.75}]


def test_nothing_is_chosen_by_the_test_set(tmp_path: Path) -> None:
    sets = [held_out(), held_out("chain-test", 100)]
    test = {0: 4, 2: 3, 4: 1, 6: 4}  # best at step 6, where the dev split is not
    run(tmp_path / "run", heldout=sets, right=reaches({0: 0, 2: 1, 4: 2, 6: 2}, test), eval_every=2, keep_best=True)
    rows = {row["step"]: row for row in comparable(tmp_path / "run") if "eval/chain/accuracy" in row}
    assert {step: row["eval/chain/accuracy"] for step, row in rows.items()} == {0: 0.0, 2: 0.25, 4: 0.5, 6: 0.5}
    assert {step: row["eval/chain-test/accuracy"] for step, row in rows.items()} == {0: 1.0, 2: 0.75, 4: 0.25, 6: 1.0}
    assert [event["step"] for event in kinds(tmp_path / "run", "best")] == [0, 2, 4]
    assert exported(tmp_path / "run") == "4"
    names = {path.name for path in (tmp_path / "run" / "rollouts").glob("eval_*")}
    assert names == {f"eval_{name}_{step:06d}.jsonl" for name in ("chain", "chain-test") for step in (0, 2, 4, 6)}
