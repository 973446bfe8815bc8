"""OpenRLHF's reward model and critic as RLLR uses them: scores that padding does not change, and a critic that starts from a reward model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openrlhf_ext.evaluate.reward_model import load_reward_model, score

SEQUENCES = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [12], [9, 8, 7, 6]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model as OpenRLHF's trainer leaves it: the trunk of a tiny model, a head, the head's name in the config."""
    from openrlhf.models import get_llm_for_sequence_regression

    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("reward")
    build_tiny_model(folder / "start", task="label-toy", layers=2, hidden=64, heads=2, context=64, seed=3)
    torch.manual_seed(0)
    model = get_llm_for_sequence_regression(
        str(folder / "start"), "reward", param_dtype="float32", attn_implementation="sdpa", init_value_head=True
    )
    model.config.value_head_prefix = "score"  # as the program does before it saves
    model.save_pretrained(folder / "rm")
    return folder / "rm"


def test_the_program_saves_the_name_of_the_head() -> None:
    """By which a reward model is told from a plain one before a run."""
    from importlib.util import find_spec

    spec = find_spec("openrlhf.cli.train_rm")
    assert spec is not None and spec.origin is not None
    assert "config.value_head_prefix = args.ds.value_head_prefix" in Path(spec.origin).read_text()


def test_a_score_does_not_depend_on_padding_or_company(saved: Path) -> None:
    model = load_reward_model(saved, "cpu")
    alone = [score(model, [sequence], pad=0)[0] for sequence in SEQUENCES]
    assert len({round(value, 4) for value in alone}) == len(alone), "the control: different texts score differently"
    for batch in (2, 4):
        assert score(model, SEQUENCES, pad=0, batch=batch) == pytest.approx(alone, abs=1e-5)
    for pad in (0, 1, 30):
        for side in ("left", "right"):
            ids, mask = padded(SEQUENCES[0], 9, pad, side)
            with torch.no_grad():
                assert model(ids, attention_mask=mask).item() == pytest.approx(alone[0], abs=1e-5)


def test_the_critic_starts_from_the_reward_model(saved: Path) -> None:
    """Its value behind a token is the reward model's score of the text up to there: trunk and head were taken over."""
    from openrlhf.models import get_llm_for_sequence_regression

    critic = get_llm_for_sequence_regression(
        str(saved), "critic", param_dtype="float32", attn_implementation="sdpa", init_value_head=False
    ).eval()
    sequence = SEQUENCES[1]
    ids, mask = torch.tensor([sequence]), torch.ones(1, len(sequence), dtype=torch.long)
    with torch.no_grad():
        values = critic(ids, torch.ones(1, len(sequence) - 1), mask)[0].tolist()
    model = load_reward_model(saved, "cpu")
    scores = score(model, [sequence[:end] for end in range(1, len(sequence))], pad=0)
    assert values == pytest.approx(scores, abs=1e-5)


def test_the_critic_of_another_start_model_differs(saved: Path) -> None:
    from openrlhf.models import get_llm_for_sequence_regression

    torch.manual_seed(1)
    fresh = get_llm_for_sequence_regression(
        str(saved.parent / "start"), "critic", param_dtype="float32", attn_implementation="sdpa", init_value_head=True
    ).eval()
    ids, mask = torch.tensor([SEQUENCES[1]]), torch.ones(1, len(SEQUENCES[1]), dtype=torch.long)
    with torch.no_grad():
        values = fresh(ids, torch.ones(1, len(SEQUENCES[1]) - 1), mask)[0]
    model = load_reward_model(saved, "cpu")
    scores = torch.tensor(score(model, [SEQUENCES[1][:end] for end in range(1, len(SEQUENCES[1]))], pad=0))
    assert (values - scores).abs().max() > 1e-3


def padded(sequence: list[int], width: int, pad: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    fill = [pad] * (width - len(sequence))
    ids = fill + sequence if side == "left" else sequence + fill
    mask = [0] * len(fill) + [1] * len(sequence) if side == "left" else [1] * len(sequence) + [0] * len(fill)
    return torch.tensor([ids]), torch.tensor([mask])


def test_value_and_policy_losses_move_their_own_network_alone(saved: Path) -> None:
    """The public code's value adapter most likely got no gradient, or the policy's did: here nothing is shared, and both learn."""
    from openrlhf.models import ValueLoss, get_llm_for_sequence_regression
    from transformers import AutoModelForCausalLM

    critic = get_llm_for_sequence_regression(
        str(saved), "critic", param_dtype="float32", attn_implementation="sdpa", init_value_head=False
    )
    policy = AutoModelForCausalLM.from_pretrained(saved.parent / "start")
    ids = torch.tensor([SEQUENCES[1]])
    actions = torch.ones(1, ids.shape[1] - 1)
    values = critic(ids, actions, torch.ones_like(ids))
    ValueLoss(0.2)(values, values.detach(), values.detach() + 1.0, action_mask=actions).backward()
    assert all(p.grad is None for p in policy.parameters())
    moved = {name for name, p in critic.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert "score.weight" in moved and any("q_proj" in name for name in moved) and any("mlp" in name for name in moved)
    before = {name: p.grad.clone() for name, p in critic.named_parameters() if p.grad is not None}
    policy(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in policy.parameters())
    assert all(torch.equal(p.grad, before[name]) for name, p in critic.named_parameters() if name in before)
    storages = [{p.untyped_storage().data_ptr() for p in net.parameters()} for net in (policy, critic)]
    assert not storages[0] & storages[1]
