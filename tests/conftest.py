"""Shared fixtures. Reference data may lie in a `shared/` directory next to the checkout; tests that want it skip without it."""

from pathlib import Path

import pytest
from hypothesis import settings

from openrlhf_ext import upstream
from openrlhf_ext.upstream import cli

# As in every process of a run: before any test imports torch's neighbours or OpenRLHF itself.
if cli.installed():
    upstream.install()

settings.register_profile("calm", deadline=None)  # a shared machine makes single examples arbitrarily slow
settings.load_profile("calm")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no reference data: there is no shared/data next to the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tensors of tests are tiny: on a busy machine a second torch thread makes an update several times slower."""
    import torch

    torch.set_num_threads(1)
