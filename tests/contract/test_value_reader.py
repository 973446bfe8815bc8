"""A value network as OpenRLHF loads it, read by the search's worker: at the last token, whatever shares the batch."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import AutoModelForSequenceClassification

    from openrlhf_ext.prepare.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("value")
    build_tiny_model(folder / "policy", task="chain", layers=2, hidden=64, heads=2, context=64, seed=1)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "policy", num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder / "value")
    return folder / "value"


def test_values_are_read_at_the_last_token(value: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    from openrlhf_ext.search.value import ValueReader

    prefixes = [(5,), (5, 6, 7), (5, 6, 8), (9, 4, 3, 2, 11, 12, 13), (7, 7), (5, 6)]
    whole = ValueReader(str(value), "cpu", "float32", 1, 1000).read(prefixes)
    alone = ValueReader(str(value), "cpu", "float32", 1, 1)
    network = AutoModelForSequenceClassification.from_pretrained(value, dtype=torch.float32).eval()
    for prefix, found in zip(prefixes, whole, strict=True):
        with torch.no_grad():
            hidden = network.model(torch.tensor([prefix])).last_hidden_state
        assert found == pytest.approx(network.score(hidden)[0, -1, 0].item(), abs=1e-5)
        assert found == pytest.approx(alone.read([prefix])[0], abs=1e-5)
    # The original reads the prefix without its last token, where these two are one.
    assert abs(whole[1] - whole[2]) > 1e-3


def test_a_language_model_is_no_value_network(value: Path) -> None:
    from openrlhf_ext.search.value import ValueReader

    with pytest.raises(ValueError, match=r"holds no score\.weight"):
        ValueReader(str(value.parent / "policy"), "cpu", "float32", 1, 10)
