"""The exact KL: against a plain sum over the vocabulary, whatever the chunk, without all logits in memory; and its sampled stand-in."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.losses.vocabulary import action_log_probs, action_terms, full_kl, pieces_of, sampled_kl

B, A, H, V = 3, 7, 4, 50


def example(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    is_action = torch.tensor([[0, 1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]]).bool()
    actions = torch.randint(0, V, (B, A), generator=generator)
    return {
        "hidden": draw(B, A, H).requires_grad_(True),
        "ref_hidden": draw(B, A, H),
        "weight": draw(V, H).requires_grad_(True),
        "ref_weight": draw(V, H),
        "actions": actions,
        "is_action": is_action,
    }


def terms(x: dict[str, torch.Tensor], chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    return action_terms(
        x["hidden"],
        x["ref_hidden"],
        x["actions"],
        x["is_action"],
        lambda states: states @ x["weight"].T,
        lambda states: states @ x["ref_weight"].T,
        chunk,
    )


def test_full_kl_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2) = 0.130812
    logits, reference = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[5.0, 5.0]])
    assert full_kl(logits, reference).tolist() == pytest.approx([0.1308120], abs=1e-6)
    assert full_kl(reference, logits).tolist() == pytest.approx([0.1438410], abs=1e-6)  # not symmetric


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_full_kl_equals_a_plain_sum(logits: list[float], reference: list[float]) -> None:
    def softmax(xs: list[float]) -> list[float]:
        return [math.exp(x) / sum(map(math.exp, xs)) for x in xs]

    want = sum(p * math.log(p / q) for p, q in zip(softmax(logits), softmax(reference), strict=True))
    got = full_kl(torch.tensor(logits, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)).item()
    assert got == pytest.approx(want, abs=1e-9) and got > -1e-12


def test_full_kl_survives_excluded_tokens() -> None:
    logits = torch.tensor([0.0, -math.inf], requires_grad=True)
    value = full_kl(logits, torch.tensor([0.0, 0.0]))
    value.backward()
    assert value.item() == pytest.approx(math.log(2)) and torch.isfinite(logits.grad).all()
    assert full_kl(torch.tensor([0.0, 0.0]), torch.tensor([0.0, -math.inf])).item() == math.inf


def test_full_kl_and_its_gradient_vanish_at_the_reference() -> None:
    logits = torch.randn(6, V, dtype=torch.float64, requires_grad=True)
    value = full_kl(logits, logits.detach() + 3.0)  # a shifted softmax is the same softmax
    value.sum().backward()
    assert value.abs().max().item() < 1e-12 and logits.grad.abs().max().item() < 1e-12


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_action_terms_equal_the_whole_table_whatever_the_chunk(chunk: int) -> None:
    x = example()
    logits, reference = x["hidden"] @ x["weight"].T, x["ref_hidden"] @ x["ref_weight"].T
    kept = x["is_action"]
    want_kl = torch.where(kept, full_kl(logits, reference), 0.0)
    want_log = torch.where(kept, logits.log_softmax(-1).gather(-1, x["actions"].unsqueeze(-1)).squeeze(-1), 0.0)
    want_ref = torch.where(kept, reference.log_softmax(-1).gather(-1, x["actions"].unsqueeze(-1)).squeeze(-1), 0.0)
    log_probs, kl, ref_log_probs = terms(x, chunk)
    torch.testing.assert_close(kl, want_kl)
    torch.testing.assert_close(log_probs, want_log)
    torch.testing.assert_close(ref_log_probs, want_ref)
    assert not ref_log_probs.requires_grad
    alone = action_log_probs(x["hidden"], x["actions"], kept, lambda rows: rows @ x["weight"].T, chunk)
    torch.testing.assert_close(alone, want_log)
    leaves = [x["hidden"], x["weight"]]
    want = torch.autograd.grad((want_kl * 0.7 + want_log).sum(), leaves)
    got = torch.autograd.grad((kl * 0.7 + log_probs).sum(), leaves)
    torch.testing.assert_close(got, want)


def test_more_pieces_than_rows_call_the_head_that_often_and_change_nothing() -> None:
    x, calls = example(), []

    def head(states: torch.Tensor) -> torch.Tensor:
        calls.append(len(states))
        return states @ x["weight"].T

    actions = int(x["is_action"].sum())
    assert pieces_of(x["is_action"], 4) == -(-actions // 4)
    alone = action_log_probs(x["hidden"], x["actions"], x["is_action"], head, chunk=4)
    calls.clear()
    spread = action_log_probs(x["hidden"], x["actions"], x["is_action"], head, chunk=4, pieces=actions + 2)
    assert len(calls) == actions + 2 and sum(calls) == actions
    torch.testing.assert_close(spread, alone)
    (gradient,) = torch.autograd.grad(spread.sum(), x["hidden"])
    assert len(calls) == 2 * (actions + 2), "the backward pass asks as often"
    torch.testing.assert_close(gradient, torch.autograd.grad(alone.sum(), x["hidden"])[0])
    with pytest.raises(ValueError, match=f"{actions} actions in chunks of 4 need {-(-actions // 4)} pieces, got 1"):
        action_log_probs(x["hidden"], x["actions"], x["is_action"], head, chunk=4, pieces=1)


def saved_and_largest(x: dict[str, torch.Tensor], chunk: int) -> tuple[int, int]:
    """Numbers kept for the backward pass with a vocabulary dimension; the most rows of logits a head was asked for."""
    kept, rows = 0, []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() if tensor.shape[-1:] == (V,) else 0
        return tensor

    def head(states: torch.Tensor) -> torch.Tensor:
        rows.append(len(states))
        return states @ x["weight"].T

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        action_terms(x["hidden"], x["ref_hidden"], x["actions"], x["is_action"], head, head, chunk)
    return kept, max(rows)


def test_no_logits_wait_for_the_backward_pass() -> None:
    assert saved_and_largest(example(), 2) == (0, 2)
    # The control: the plain computation keeps every row of logits.
    x, kept = example(), 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() if tensor.shape[-1:] == (V,) else 0
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        full_kl(x["hidden"] @ x["weight"].T, x["ref_hidden"] @ x["ref_weight"].T)
    assert kept >= B * A * V


def test_the_reference_gets_no_gradient() -> None:
    x = example()
    for name in ("ref_hidden", "ref_weight"):
        x[name].requires_grad_(True)
    sum(part.sum() for part in terms(x, 3)).backward()
    assert x["ref_hidden"].grad is None and x["ref_weight"].grad is None
    assert (x["hidden"].grad[~x["is_action"]] == 0).all() and x["hidden"].grad[x["is_action"]].abs().min() > 0


def test_a_batch_without_actions_gives_zeros() -> None:
    x = example()
    x["is_action"] = torch.zeros(B, A).bool()
    log_probs, kl, _ = terms(x, 3)
    assert log_probs.shape == kl.shape == (B, A) and not log_probs.any() and not kl.any()


def test_bad_requests_are_named() -> None:
    x = example()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        terms(x, 0)
    with pytest.raises(ValueError, match=r"must agree in \[B, A\]"):
        terms(x | {"actions": x["actions"][:, 1:]}, 2)


def test_sampled_kl_by_hand() -> None:
    # exp(-log 2) - 1 + log 2 = 0.193147; exp(log 2) - 1 - log 2 = 0.306853
    got = sampled_kl(torch.tensor([math.log(2), -math.log(2), 0.0], dtype=torch.float64))
    assert got.tolist() == pytest.approx([0.1931472, 0.3068528, 0.0], abs=1e-6)
    assert torch.isfinite(sampled_kl(torch.tensor([-500.0]))).all()


def test_sampled_kl_is_the_kl_for_actions_of_the_policy_and_not_for_others() -> None:
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    k3 = sampled_kl((p / q).log())
    exact = full_kl(p.log(), q.log()).item()
    assert (p * k3).sum().item() == pytest.approx(exact, abs=1e-6)
    assert (q * k3).sum().item() != pytest.approx(exact, abs=1e-3)  # actions stored under q


def test_sampled_kl_has_no_gradient_at_the_reference() -> None:
    ratio = torch.zeros(3, requires_grad=True)
    sampled_kl(ratio).sum().backward()
    assert ratio.grad.tolist() == [0, 0, 0]
