"""Ray without a cluster: references are the values themselves."""

from __future__ import annotations

import pytest


@pytest.fixture
def ray_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from openrlhf_ext import offline_trainer, trainer, training_loop
    from openrlhf_ext.rollout import source

    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "get", lambda refs: refs)
    for module in (offline_trainer, trainer, training_loop, source):
        monkeypatch.setattr(module, "wait_for", lambda refs, what, seconds: list(refs))
