"""Scores of played reward models to rewards: what each arm learns from, in any micro-batches, and what it must not see."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

from openrlhf_ext.config.schema import Rllr
from openrlhf_ext.losses.rllr import Combination, RunningMoments
from openrlhf_ext.methods.rllr import LabelSensitive
from openrlhf_ext.methods.rllr_maker import RllrExperienceMaker
from tests.wiring import samples

LABEL = [5.0, 1.0, -2.0, 4.0]
RATIONALE = [0.5, -0.5, 1.0, 0.0]
CORRECT = [1.0, 0.0, 0.0, 1.0]
LENGTHS = [3, 1, 5, 2]
TAU = 3.0
MIXED = [3.5, 0.5, -1.0, 3.0]  # min(label, 3) + rationale


class PlayedGroup:
    """A reward model: scores by the first answer token (10 + rollout index), and what it was asked."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.asked = scores, []

    def score(self, sequences: torch.Tensor) -> torch.Tensor:
        self.asked.append(sequences)
        return torch.tensor([self.scores[int(row[row >= 10][0]) - 10] for row in sequences])


class PlayedMaker(RllrExperienceMaker):
    """Without Ray: groups answer at once."""

    def _dispatch_forward(self, group, sync_condition, **kwargs):
        return [group.score(sequences) for sequences in kwargs["sequences"]]

    def _flatten_results(self, refs, duplicate_factor):
        return refs


def method(options: Rllr, scores: dict[str, list[float]]) -> LabelSensitive:
    made = object.__new__(LabelSensitive)
    made.options = options
    made.models = {role: f"models/{role}" for role in options.models}
    made.combination = Combination(tau=TAU if options.reward == "mixed" else None, weight=options.weight)
    made.moments = RunningMoments() if options.normalise else None
    made.groups = {role: PlayedGroup(scores[role]) for role in options.models}
    made._rollout, made._columns = None, {}
    return made


def step(
    reward: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    micro_batch: int = 4,
    normalise: bool = False,
    label: list[float] = LABEL,
    correct: list[float] = CORRECT,
    kl: float = 0.0,
    form: tuple[dict, ...] = ({}, {}, {}, {}),
    **options: object,
) -> tuple[LabelSensitive, list[Experience], list[dict], PlayedMaker]:
    made = method(Rllr(reward=reward, normalise=normalise, **options), {"label": label, "rationale": RATIONALE})  # type: ignore[arg-type]
    args = samples.arguments(
        rollout__micro_batch_size=micro_batch,
        rollout__n_samples_per_prompt=1,
        algo__advantage__estimator="gae",
        algo__advantage__gamma=1.0,
        algo__advantage__lambd=1.0,
        algo__kl__use_loss=False,
        train__colocate_all=False,
    )
    maker = PlayedMaker(
        None, None, None, None, SimpleNamespace(value=0.2), SimpleNamespace(args=args), SimpleNamespace(pad_token_id=0)
    )

    def upstream(self: RemoteExperienceMaker, batches: list[Experience]) -> list[Experience]:
        for batch in batches:
            batch.values = torch.zeros_like(batch.action_mask, dtype=torch.float)
            batch.kl = torch.full_like(batch.values, kl)
        return batches

    monkeypatch.setattr(RemoteExperienceMaker, "make_experience", upstream)
    made.configure(maker)
    rollout = [
        samples.sample([9] * (2 + i), [10 + i] + [3] * (LENGTHS[i] - 1), correct[i]) for i in range(len(LENGTHS))
    ]
    rows = [{"reward": correct[i], "extra_logs": {"correct": correct[i]}} | form[i] for i in range(len(LENGTHS))]
    made.observe(SimpleNamespace(rows=rows))  # type: ignore[arg-type]
    batches = maker.make_experience(maker.split_rollout_samples(rollout))
    return made, batches, rows, maker


def rewards(batches: list[Experience]) -> list[float]:
    found = {i: r for batch in batches for i, r in zip(batch.index, batch.rewards.tolist(), strict=True)}
    return [found[i] for i in sorted(found)]


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("arm", "wanted"), [("mixed", MIXED), ("label", LABEL), ("rationale", RATIONALE), ("exact-match", CORRECT)]
)
def test_every_arm_learns_from_its_own_reward(
    arm: str, wanted: list[float], micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, batches, rows, _ = step(arm, monkeypatch, micro_batch=micro_batch)
    assert rewards(batches) == wanted
    assert [row["reward"] for row in rows] == wanted
    assert [row["extra_logs"]["label_accuracy"] for row in rows] == CORRECT
    if arm == "mixed":
        assert [row["extra_logs"]["label_score"] for row in rows] == LABEL
        assert [row["extra_logs"]["rationale_score"] for row in rows] == RATIONALE


@pytest.mark.parametrize("arm", ["label", "rationale", "mixed"])
def test_the_verifier_says_nothing_to_a_learned_arm(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flipped = [1 - c for c in CORRECT]
    assert rewards(step(arm, monkeypatch)[1]) == rewards(step(arm, monkeypatch, correct=flipped)[1])
    assert rewards(step("exact-match", monkeypatch, correct=flipped)[1]) == flipped  # the control


def test_both_models_read_the_same_token_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    made, batches, _, _ = step("mixed", monkeypatch, micro_batch=2)
    one, other = (made.groups[role].asked for role in ("label", "rationale"))  # type: ignore[attr-defined]
    assert len(one) == len(other) == len(batches) == 2
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_normalisation_is_of_the_sum_over_the_whole_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = sum(MIXED) / 4
    std = math.sqrt(sum((r - mean) ** 2 for r in MIXED) / 3)
    for micro_batch in (1, 4):
        made, batches, rows, _ = step("mixed", monkeypatch, micro_batch=micro_batch, normalise=True)
        assert rewards(batches) == pytest.approx([(r - mean) / std for r in MIXED], abs=1e-6)
        assert [row["reward"] for row in rows] == MIXED, "rows keep what the answer scored"
        assert made.metrics(None)["train/reward_moment_std"] == pytest.approx(std)  # type: ignore[arg-type]


FORM = ({}, {"extra_logs": {"parsed": 0.0}}, {"extra_logs": {"parsed": 1.0}, "truncated": True}, {"truncated": False})
"""Answers without a readable label line, cut off behind one, and whole ones."""


@pytest.mark.parametrize("arm", ["mixed", "label", "rationale", "exact-match"])
def test_an_answer_without_a_label_or_an_end_pays_where_that_is_asked(
    arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"mixed": MIXED, "label": LABEL, "rationale": RATIONALE, "exact-match": CORRECT}[arm]
    made, batches, rows, _ = step(arm, monkeypatch, micro_batch=2, form=FORM, format_penalty=2.0)
    wanted = [r - p for r, p in zip(plain, (0, 2, 2, 0), strict=True)]
    assert rewards(batches) == wanted == [row["reward"] for row in rows]
    assert made.metrics(None)["rollout/formless_share"] == 0.5  # type: ignore[arg-type]
    assert rewards(step(arm, monkeypatch, form=FORM)[1]) == plain, "nothing is asked by default, as in the paper"


def test_the_penalty_is_inside_the_normalised_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    paid = [r - p for r, p in zip(MIXED, (0, 2, 2, 0), strict=True)]
    mean = sum(paid) / 4
    std = math.sqrt(sum((r - mean) ** 2 for r in paid) / 3)
    _, batches, _, _ = step("mixed", monkeypatch, form=FORM, normalise=True, format_penalty=2.0)
    assert rewards(batches) == pytest.approx([(r - mean) / std for r in paid], abs=1e-6)


def test_what_tau_does_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    made = step("mixed", monkeypatch)[0]
    found = made.metrics(None)  # type: ignore[arg-type]
    assert found["rollout/label_capped_share"] == 0.5 and found["rollout/tau"] == TAU  # 5 and 4 of four are above 3
    assert found["rollout/label_score_p50"] == pytest.approx(2.5)
    assert "rollout/label_capped_share" not in step("label", monkeypatch)[0].metrics(None)  # type: ignore[arg-type]


def test_a_broken_score_stops_the_run_and_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="1 of 4 scores of the label reward model models/label"):
        step("mixed", monkeypatch, label=[1.0, math.nan, 1.0, 1.0])


def test_the_kl_coefficient_moves_with_the_kl_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # KL 1 per token: 11 nats over 4 answers, 2.75 each, against 2.5: error .1, so beta grows by .1 * 4 / 100.
    made, batches, _, maker = step("mixed", monkeypatch, kl=1.0, kl_target=2.5, kl_horizon=100.0)
    found = maker.compute_advantages_and_returns(batches)
    assert maker.kl_ctl.value == pytest.approx(0.2 * 1.004)
    assert made.metrics(None)["train/kl_answer"] == 2.75  # type: ignore[arg-type]
    returns = {i: r for b in found for i, r in zip(b.index, b.info["return"].tolist(), strict=True)}
    wanted = {i: r - 0.2 * length for i, (r, length) in enumerate(zip(MIXED, LENGTHS, strict=True))}
    assert returns == pytest.approx(wanted), "this step was charged at the coefficient it began with"
    _, batches, _, maker = step("mixed", monkeypatch, kl=1.0, kl_target=None)
    maker.compute_advantages_and_returns(batches)
    assert maker.kl_ctl.value == 0.2


def test_the_moments_survive_a_resume_and_another_arm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = step("mixed", monkeypatch, normalise=True)[0]
    again = method(Rllr(reward="mixed"), {"label": LABEL, "rationale": RATIONALE})
    again.load_state_dict(made.state_dict())
    assert again.moments == made.moments and again.moments is not None and again.moments.count == 4
    other = method(Rllr(reward="label"), {"label": LABEL})
    with pytest.raises(ValueError, match="of arm mixed"):
        other.load_state_dict(made.state_dict())
