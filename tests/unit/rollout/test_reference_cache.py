"""The cache gives back what was stored, and notices another model, other data or another precision."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openrlhf_ext.data.trajectory import Trajectory
from openrlhf_ext.rollout.reference_cache import (
    Fingerprint,
    StaleCache,
    data_fingerprint,
    model_fingerprint,
    read_cache,
    write_cache,
)

MADE = Fingerprint("model", "data", "float32")


def trajectory(tokens: list[int], ranges: list[tuple[int, int]], reward: float = 1.0) -> Trajectory:
    return {
        "prompt": "p",
        "label": "{}",
        "observation_tokens": tokens,
        "action_ranges": ranges,
        "rollout_log_probs": None,
        "reward": reward,
        "scores": None,
        "truncated": False,
        "extra_logs": {},
    }


def test_rows_come_back_exactly(tmp_path: Path) -> None:
    rows = [torch.tensor([-0.1, -2.5]), torch.zeros(0), torch.tensor([-1e-7])]
    write_cache(tmp_path / "deep" / "ref.safetensors", MADE, rows)
    got = read_cache(tmp_path / "deep" / "ref.safetensors", MADE)
    assert [row.tolist() for row in got] == [row.tolist() for row in rows]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["ref.safetensors"]
    assert read_cache(tmp_path / "none.safetensors", MADE) is None


@pytest.mark.parametrize("field", ["model", "data", "precision"])
def test_a_cache_of_something_else_is_refused(tmp_path: Path, field: str) -> None:
    write_cache(tmp_path / "ref.safetensors", MADE, [torch.ones(2)])
    with pytest.raises(StaleCache, match=f"made with another {field}; delete"):
        read_cache(tmp_path / "ref.safetensors", replace(MADE, **{field: "changed"}))


def test_the_model_is_known_by_its_weights_and_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no \.safetensors or \.bin weights"):
        model_fingerprint(tmp_path)
    weights = tmp_path / "model.safetensors"
    seen = []
    for content, config in ((b"aa", "{}"), (b"ab", "{}"), (b"ab", "{1}")):
        weights.write_bytes(content)
        (tmp_path / "config.json").write_text(config)
        seen.append(model_fingerprint(tmp_path))
    assert len(set(seen)) == 3
    (tmp_path / "README.md").write_text("notes")
    assert model_fingerprint(tmp_path) == seen[-1]


def test_the_data_is_known_by_tokens_ranges_and_order() -> None:
    a, b = trajectory([1, 2], [(1, 2)]), trajectory([1, 3], [(1, 2)])
    assert data_fingerprint([a, b]) == data_fingerprint([dict(a, action_ranges=[[1, 2]], reward=0.0), b])
    others = [[b, a], [a], [trajectory([1, 2], [(1, 1)]), b]]
    assert len({data_fingerprint(rows) for rows in [[a, b], *others]}) == 4
