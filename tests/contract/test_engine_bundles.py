"""Engines wider than one GPU: OpenRLHF's own choice of bundles may cross nodes, ours goes in through its loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

NODES = dict(enumerate("aaabbbbb"))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bundles on one node, five on another."""
    import ray

    monkeypatch.setattr(ray.util, "placement_group_table", lambda group: {"bundles_to_node_id": NODES})


def test_upstream_sorts_by_node_but_cuts_across(table: None) -> None:
    from openrlhf.trainer.ray.utils import get_bundle_indices

    second = get_bundle_indices(None, 1, 2)
    assert second == [2, 3]
    assert {NODES[bundle] for bundle in second} == {"a", "b"}  # when this is no longer so, ours is no longer needed


def test_our_order_reaches_the_engines_and_upstream_is_left_as_it_was(
    table: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm")
    from openrlhf_ext.upstream import engine

    started: list[tuple[int, list[int]]] = []

    class Maker(engine._EngineMaker):
        def __init__(self, *_: object) -> None: ...

        def options(self, **options) -> Maker:
            self.bundle = options["scheduling_strategy"].placement_group_bundle_index
            return self

        def remote(self, **arguments):
            started.append((self.bundle, arguments["bundle_indices"]))

    monkeypatch.setattr(engine, "_EngineMaker", Maker)
    before = engine.vllm_engine.RolloutRayActor, engine.vllm_engine.get_bundle_indices
    create = {"param_dtype": "bf16", "max_model_len": 64, "cpus": 0.0, "gpus": 1.0, "seed": 1}
    group = SimpleNamespace()
    engine.create_engines(3, "model", placement_group=group, tensor_parallel_size=2, **create)
    assert started == [(0, [0, 1]), (3, [3, 4]), (5, [5, 6])]
    assert (engine.vllm_engine.RolloutRayActor, engine.vllm_engine.get_bundle_indices) == before
    with pytest.raises(ValueError, match="4 engines of 2 GPUs each, but only 3"):
        engine.create_engines(4, "model", placement_group=group, tensor_parallel_size=2, **create)
    started.clear()
    engine.create_engines(2, "model", placement_group=group, **create)
    assert started == [(0, None), (1, None)]  # engines of one GPU: bundle i
