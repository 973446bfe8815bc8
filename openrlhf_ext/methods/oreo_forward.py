"""A causal language model whose forward pass can stop at its hidden states or go on to the log-probs of given actions.

OpenRLHF's `Actor` makes the logits of every position, [B, L, V] in float32. Here the head sees the action columns alone, a few rows at a
time (losses/vocabulary.py). It is called inside the model's own forward pass, so that DeepSpeed's hooks gather sharded weights.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import torch

from openrlhf_ext.losses.vocabulary import action_log_probs, action_terms

if TYPE_CHECKING:
    from openrlhf_ext.losses.vocabulary import Head

TOLERANCE = {torch.float32: 1e-3}
"""How far logits may differ between the model's own pass and the head on its hidden states; 16-bit models round more."""


def give_actions(engine) -> None:
    """Let ``engine(tokens, attention_mask, ...)`` be :func:`_forward`; all ranks call it.

    ``engine``: a DeepSpeed engine around a model of transformers. Raises ValueError for a model whose logits are not simply its output
    layer on its last hidden states (a cap or a scale in between): then log-probs made that way would be another model's.
    """
    model = engine.module
    tokens = torch.arange(8, device=engine.device).unsqueeze(0) % model.config.vocab_size
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        whole = engine(tokens, attention_mask=mask, position_ids=_positions(mask)).logits.float()
    model.forward = types.MethodType(_forward, model)
    with torch.no_grad():
        ours = engine(tokens, mask, logits=True).float()
    apart = (whole - ours).abs().max().item()
    allowed = TOLERANCE.get(next(model.parameters()).dtype, 0.1) * max(1.0, whole.abs().max().item())
    if not apart <= allowed:
        raise ValueError(
            f"{type(model).__name__}: its logits differ by {apart:.3g} from its output layer applied to its last hidden states, so it "
            "caps or scales them; OREO is written for models that do not"
        )


def head_of(engine) -> Head:
    """The output layer; to be called while some forward pass of a sharded model is under way."""
    return engine.module.get_output_embeddings()


def _forward(
    self,
    tokens: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    logits: bool = False,
    actions: torch.Tensor | None = None,
    is_action: torch.Tensor | None = None,
    ref_hidden: torch.Tensor | None = None,
    ref_head: Head | None = None,
    chunk: int = 256,
    pieces: int | None = None,
):
    """Hidden states [B, L, H]; with ``logits`` [B, L, V]; with ``actions`` and ``is_action`` [B, L - 1] the log-probs [B, L - 1];
    with a reference too, (log-probs, KL, reference log-probs), each [B, L - 1]."""
    hidden = self.base_model(
        input_ids=tokens, attention_mask=attention_mask, position_ids=_positions(attention_mask), use_cache=False
    ).last_hidden_state
    head = self.get_output_embeddings()
    if logits:
        return head(hidden)
    if actions is None or is_action is None:
        return hidden
    if ref_hidden is None or ref_head is None:
        return action_log_probs(hidden[:, :-1], actions, is_action, head, chunk, pieces)
    terms = action_terms(
        hidden[:, :-1], ref_hidden[:, :-1], actions, is_action, head, ref_head, chunk=chunk, pieces=pieces
    )
    return tuple(terms)


def _positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Counted from the first real token, as OpenRLHF's Actor does."""
    return (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 1)
