"""DPO, KTO and reward models as OpenRLHF's trainers run them with our data and records: what is trained, what is logged, what a reference does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from openrlhf_ext.config.schema import Kto
from openrlhf_ext.data.pair_options import PairOptions
from openrlhf_ext.data.pairs import Columns
from openrlhf_ext.methods.dpo_trainer import RecordedDPOTrainer
from openrlhf_ext.methods.kto_trainer import KTOTrainer
from openrlhf_ext.methods.rm_trainer import RecordedRMTrainer
from openrlhf_ext.rollout.reference_cache import StaleCache
from tests.wiring.preference_loop import actor, train, written

LOG2 = math.log(2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("start") / "model"
    build_tiny_model(folder, task="chain", layers=2, hidden=64, heads=2, context=64, seed=3)
    return folder


def pair(i: int, **changes: object) -> dict:
    a, b = 10 + i, 3 * i % 10
    good, wrong = f"{a}+{b}={a + b}\n", f"{a}+{b}={a + b + 1}\n"
    row = {"prompt": f"{a}+{b} mod 100\n", "chosen": f"{good}#### {a + b}", "rejected": wrong}
    return row | {"meta": {"problem_id": i}} | changes


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return written(tmp_path / "pairs.jsonl", [pair(i) for i in range(10)])


@pytest.fixture
def held_out(tmp_path: Path) -> str:
    return written(tmp_path / "held_out.jsonl", [pair(i) for i in range(20, 25)])


def test_the_loss_of_the_first_update_is_log_2_and_falls(
    model: Path, pairs: str, held_out: str, tmp_path: Path
) -> None:
    _, rows = train(RecordedDPOTrainer, model, tmp_path / "run", pairs, held_out=held_out, epochs=3)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6], "2 whole updates of 4 in each epoch of 10 pairs"
    first = rows[1]
    assert first["train/loss"] == pytest.approx(LOG2, abs=1e-6)
    assert (first["train/reward_chosen"], first["train/reward_rejected"], first["train/reward_margin"]) == (0, 0, 0)
    assert first["train/logp_rejected"] < 0 and first["train/logp_chosen"] < 0
    assert rows[-1]["train/loss"] < 0.9 * LOG2 and rows[-1]["train/accuracy"] == 1
    assert rows[-1]["train/reward_margin"] == pytest.approx(
        rows[-1]["train/reward_chosen"] - rows[-1]["train/reward_rejected"], abs=1e-5
    )
    assert rows[-1]["train/tokens_total"] > first["train/tokens_total"] > 0
    assert rows[0]["eval/loss"] == pytest.approx(LOG2, abs=1e-6)
    assert [row["step"] for row in rows if "eval/loss" in row] == [0, 2, 4, 6]
    assert rows[-1]["eval/accuracy"] > 0.5 and rows[-1]["eval/loss"] < LOG2


def test_means_are_over_the_update_whatever_the_micro_batch(model: Path, pairs: str, tmp_path: Path) -> None:
    runs = [
        train(RecordedDPOTrainer, model, tmp_path / str(n), pairs, epochs=2, train__micro_batch_size=n)[1]
        for n in (1, 2, 4)
    ]
    for rows in runs[1:]:
        for ours, theirs in zip(rows, runs[0], strict=True):
            for key in ("loss", "accuracy", "reward_chosen", "logp_rejected"):
                assert ours[f"train/{key}"] == pytest.approx(theirs[f"train/{key}"], abs=1e-3), key


def test_a_stored_reference_is_the_model_reference(model: Path, pairs: str, held_out: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "reference.safetensors")
    stored = {"reference__cached": True, "reference__file": cache, "held_out": held_out, "epochs": 2}
    _, with_model = train(RecordedDPOTrainer, model, tmp_path / "a", pairs, held_out=held_out, epochs=2)
    _, computed = train(RecordedDPOTrainer, model, tmp_path / "b", pairs, **stored)
    _, read = train(RecordedDPOTrainer, model, tmp_path / "c", pairs, **stored)
    for rows in (computed, read):
        for ours, theirs in zip(rows, with_model, strict=True):
            for key in (k for k in theirs if k.startswith(("train/", "eval/"))):
                assert ours[key] == pytest.approx(theirs[key], abs=1e-4), key
    other = written(tmp_path / "other.jsonl", [pair(i) for i in range(1, 11)])
    with pytest.raises(StaleCache, match="another data"):
        train(RecordedDPOTrainer, model, tmp_path / "d", other, **stored)


def test_a_trained_policy_is_never_taken_for_the_reference(model: Path, pairs: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="start the run anew"):
        train(RecordedDPOTrainer, model, tmp_path / "run", pairs, reference__cached=True, consumed=4)


def test_the_reference_stays_where_it_was(model: Path, pairs: str, tmp_path: Path) -> None:
    trainer, _ = train(RecordedDPOTrainer, model, tmp_path / "run", pairs)
    start = dict(actor(model).named_parameters())
    assert all(p.equal(start[name]) for name, p in trainer.ref_model.named_parameters())
    assert not all(p.equal(start[name]) for name, p in trainer.model.named_parameters())


def test_only_predictions_behind_the_prompt_have_a_gradient(model: Path, pairs: str, tmp_path: Path) -> None:
    """Logits at column t predict token t + 1: those of columns before the prompt's last have gradient 0, chosen and rejected alike."""
    policy, seen = actor(model), []

    def keep(_module, _inputs, logits: torch.Tensor) -> None:
        if logits.requires_grad:
            logits.retain_grad()
            seen.append(logits)

    policy.model.get_output_embeddings().register_forward_hook(keep)
    trainer, _ = train(RecordedDPOTrainer, model, tmp_path / "run", pairs, policy=policy, train__micro_batch_size=4)
    data = trainer.train_dataloader.dataset
    order = list(trainer.train_dataloader.sampler)[:4]
    first = seen[0].grad
    for column, index in enumerate(order):
        prompt = len(data.pairs[index].prompt)
        for row, side in ((column, data.pairs[index].chosen), (4 + column, data.pairs[index].rejected)):
            size = first[row].abs().sum(-1)
            assert not size[: prompt - 1].any(), "the prompt is never trained on"
            assert (size[prompt - 1 : prompt - 1 + len(side)] > 0).all(), "every token of the side is"
            assert not size[prompt - 1 + len(side) :].any(), "nor is padding"


def test_step_pairs_lower_the_pit_behind_its_prefix(model: Path, tmp_path: Path) -> None:
    """P(pit | prefix) falls; the control is the same pairs the other way round."""
    rows = [pair(i, rejected=f"99-{i}={99 - i}\n") for i in range(12)]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    moved = {}
    for name, data in (("pits", rows), ("turned", turned)):
        file = written(tmp_path / f"{name}.jsonl", data)
        _, logged = train(RecordedDPOTrainer, model, tmp_path / name, file, epochs=6)
        side = "rejected" if name == "pits" else "chosen"
        moved[name] = logged[-1][f"train/reward_{side}"] / 0.1
    assert moved["pits"] < -1, "log P(pit | prefix) against the start model, in nats"
    assert moved["turned"] > moved["pits"] + 2


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"model__label_smoothing": 0.1}, LOG2),
        ({"model__ipo_enable": True}, 25.0),  # (0 - 1 / (2 * 0.1))^2
    ],
)
def test_objectives_of_openrlhf_are_switched_by_its_keys(
    model: Path, pairs: str, tmp_path: Path, settings: dict, first: float
) -> None:
    _, rows = train(RecordedDPOTrainer, model, tmp_path / "run", pairs, epochs=2, **settings)
    assert rows[0]["train/loss"] == pytest.approx(first, abs=1e-4) and rows[-1]["train/loss"] < first


def test_losses_by_hand() -> None:
    from openrlhf.models import DPOLoss

    # beta 0.5, log-ratios 2 and -1: the margin is 3, beta times it 1.5
    policy, reference = (torch.tensor([-1.0]), torch.tensor([-5.0])), (torch.tensor([-3.0]), torch.tensor([-4.0]))
    down, up = math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(1.5))
    for loss, want in (
        (DPOLoss(0.5), down),
        (DPOLoss(0.5, label_smoothing=0.2), 0.8 * down + 0.2 * up),
        (DPOLoss(0.5, ipo=True), (3 - 1) ** 2),
    ):
        found, chosen, rejected = loss(*policy, *reference)
        assert found.item() == pytest.approx(want, abs=1e-6)
        assert (chosen.item(), rejected.item()) == (1.0, -0.5)


def test_a_reward_model_is_trained_on_what_ppo_scores(model: Path, pairs: str, held_out: str, tmp_path: Path) -> None:
    both = PairOptions(Columns(), max_length=64, ends="both")
    trainer, rows = train(RecordedRMTrainer, model, tmp_path / "run", pairs, held_out=held_out, epochs=8, pairs=both)
    assert rows[-1]["train/loss"] < rows[1]["train/loss"] and rows[-1]["train/accuracy"] == 1
    assert rows[-1]["eval/accuracy"] >= rows[0]["eval/accuracy"] and "eval/reward_margin" in rows[0]
    assert trainer.model.config.std > 0 and math.isfinite(trainer.model.config.mean)
    data, tokenizer = trainer.train_dataloader.dataset, trainer.tokenizer
    chosen, _, rejected, _, margin = data[0]
    end = tokenizer.eos_token_id
    for ids, text in ((chosen, pair(0)["chosen"]), (rejected, pair(0)["rejected"])):
        generated = tokenizer(pair(0)["prompt"], add_special_tokens=False)["input_ids"]
        generated += [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
        assert ids.tolist() == [generated]
    assert margin == 0


def test_kto_equals_a_loop_and_parts_good_from_bad(model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": pair(i)["prompt"], "response": pair(i)[side], "reward": float(side == "chosen"), "problem_id": i}
        for i in range(8)
        for side in ("chosen", "rejected")
    ]
    data = written(tmp_path / "responses.jsonl", rows)
    settings = {"train__batch_size": 8, "train__micro_batch_size": 4, "epochs": 8}
    trainer, logged = train(KTOTrainer, model, tmp_path / "run", data, **settings)
    assert logged[0]["train/loss"] == pytest.approx(0.5, abs=1e-6), "at the start every gap is 0: 1 - sigmoid(0)"
    assert logged[-1]["train/loss"] < 0.49 and logged[-1]["train/accuracy"] > logged[0]["train/accuracy"]
    assert logged[-1]["train/reward_good"] > logged[-1]["train/reward_bad"]
    assert all(row["train/kl_point"] >= 0 for row in logged)
    items = [trainer.train_dataloader.dataset[i] for i in range(5)]
    *tensors, lengths = trainer.train_dataloader.dataset.collate_fn(items)
    with torch.no_grad():
        own, other, *_ = trainer.concatenated_forward(trainer.model, *tensors, lengths)
        ref_own, ref_other, *_ = trainer.concatenated_forward(trainer.ref_model, *tensors, lengths)
        loss, _, _ = trainer._loss(own, other, ref_own, ref_other)
    z = max(0.0, sum((other - ref_other).tolist()) / 5)
    want = 0.0
    for i, row in enumerate(trainer.train_dataloader.dataset.responses[:5]):
        gap = 0.1 * (own[i].item() - ref_own[i].item() - z)
        want += 1 / (1 + math.exp(gap if row.good else -gap)) / 5
    assert loss.item() == pytest.approx(want, abs=1e-6)


def test_kto_takes_pairs_and_a_stored_reference(model: Path, pairs: str, tmp_path: Path) -> None:
    settings = {"train__batch_size": 8, "train__micro_batch_size": 4, "epochs": 2}
    _, with_model = train(KTOTrainer, model, tmp_path / "a", pairs, **settings)
    _, stored = train(KTOTrainer, model, tmp_path / "b", pairs, **settings, reference__cached=True)
    for ours, theirs in zip(stored, with_model, strict=True):
        for key in (k for k in theirs if k.startswith("train/")):
            assert ours[key] == pytest.approx(theirs[key], abs=1e-4), key


def test_kto_weights_are_the_users_or_those_that_balance(model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": pair(i)["prompt"], "response": pair(i)["chosen"], "reward": float(i < 2), "problem_id": i}
        for i in range(8)
    ]
    data = written(tmp_path / "responses.jsonl", rows)
    settings = {"train__batch_size": 8, "train__micro_batch_size": 8}
    _, balanced = train(KTOTrainer, model, tmp_path / "a", data, **settings)
    assert balanced[0]["train/loss"] == pytest.approx((2 * 3.0 + 6 * 1.0) / 8 * 0.5, abs=1e-6)
    _, given = train(KTOTrainer, model, tmp_path / "b", data, **settings, kto=Kto(1.0, 1.0, 2.0))
    assert given[0]["train/loss"] == pytest.approx((2 * 1.0 + 6 * 2.0) / 8 * 0.5, abs=1e-6)


def test_a_label_model_tells_labels_apart_and_a_quality_model_does_not(tmp_path: Path) -> None:
    """The ladder of RLLR's reward models by OpenRLHF's trainer, on pairs as `prepare pairs` makes them of the synthetic task."""
    from openrlhf_ext.data.candidates import read_candidates
    from openrlhf_ext.data.label_pairs import make_label_pairs
    from openrlhf_ext.data.rationale_pairs import find_scorer, make_rationale_pairs
    from openrlhf_ext.prepare.label_toy import build_label_toy
    from openrlhf_ext.prepare.tiny_model import build_tiny_model
    from openrlhf_ext.tasks.labels import load_spec

    build_tiny_model(tmp_path / "start", task="label-toy", layers=1, hidden=64, heads=2, context=64, seed=3)
    build_label_toy(tmp_path, labels=2, noise=0.0, length=2, train=400, test=100)
    files: dict[str, list[str]] = {"label": [], "rationale": []}
    for name in ("rationales", "rationales_test"):
        found = read_candidates(
            load_spec("label-toy"), tmp_path / f"{name}.jsonl", lambda question: f"{question}\n"
        ).items
        made = {"label": make_label_pairs(found, per_problem=2, seed=1)}
        made["rationale"] = make_rationale_pairs(found, find_scorer("score"), per_problem=2, seed=1)
        for kind, pairs in made.items():
            files[kind].append(written(tmp_path / f"{kind}_{name}.jsonl", [dict(pair) for pair in pairs.items]))
    both = PairOptions(Columns(), max_length=64, ends="both")
    found_accuracy = {}
    for kind, (data, _) in files.items():
        trainer, _ = train(
            RecordedRMTrainer,
            tmp_path / "start",
            tmp_path / f"run-{kind}",
            data,
            epochs=4,
            lr=3e-3,
            pairs=both,
            train__batch_size=16,
            train__micro_batch_size=16,
        )
        for pairs, (_, held_out) in files.items():
            found_accuracy[kind, pairs] = held_out_accuracy(trainer, held_out)
    assert found_accuracy["label", "label"] >= 0.9, found_accuracy
    assert 0.35 <= found_accuracy["rationale", "label"] <= 0.65, found_accuracy
    assert found_accuracy["rationale", "rationale"] >= 0.8, found_accuracy


def held_out_accuracy(trainer, file: str) -> float:
    from openrlhf_ext.evaluate.reward_diagnostics import diagnose
    from openrlhf_ext.methods.preference_data import PairDataset, read_table

    rows = PairDataset(read_table(file, strategy=trainer.strategy), trainer.tokenizer, 64, trainer.strategy)
    trainer.model.eval()
    with torch.no_grad():
        scores = [[trainer.model(ids, attention_mask=mask).item() for ids, mask in (r[:2], r[2:4])] for r in rows]
    return diagnose([chosen for chosen, _ in scores], [rejected for _, rejected in scores]).scale.accuracy
