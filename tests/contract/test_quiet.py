"""What is silenced in the driver, and that nothing else is: OpenRLHF's lines of every step, two warnings of Ray, bars over tensors."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import pytest

from openrlhf_ext.upstream.quiet import known_warnings, warnings_only, without_weight_bars


def test_warnings_stay_and_lines_of_every_step_go(monkeypatch) -> None:
    from openrlhf.utils.logging_utils import init_logger

    logger = init_logger("openrlhf.some_module")
    (handler,) = logger.handlers
    assert handler in logging.getLogger("openrlhf").handlers  # the only one, unless a test imported OpenRLHF twice
    seen: list[str] = []
    monkeypatch.setattr(handler, "emit", lambda record: seen.append(record.getMessage()))
    before = handler.level
    try:
        handler.setLevel(logging.INFO)
        logger.info("a sample of this step")
        warnings_only()
        logger.info("a sample of the next step")
        logger.warning("a tensor was not sent")
    finally:
        handler.setLevel(before)
    assert seen == ["a sample of this step", "a tensor was not sent"]


RAYS_TIP = "Tip: In future versions of Ray, Ray will no longer override accelerator visible devices env var"
NOT_WRITABLE = "The given NumPy array is not writable, and PyTorch does not support non-writable tensors."
TENSORS = "ray._private.tensor_serialization_utils"


@pytest.mark.parametrize(
    ("text", "category", "module", "shown"),
    [
        (RAYS_TIP, FutureWarning, "ray._private.worker", False),
        (NOT_WRITABLE, UserWarning, TENSORS, False),
        ("another future", FutureWarning, "ray._private.worker", True),
        (RAYS_TIP, UserWarning, "ray._private.worker", True),
        (NOT_WRITABLE, UserWarning, "openrlhf_ext.data.trajectory", True),
        ("a tensor is lost", UserWarning, TENSORS, True),
    ],
)
def test_only_the_two_known_warnings_go(text: str, category: type[Warning], module: str, shown: bool) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        known_warnings()
        warnings.warn_explicit(text, category, "file.py", 1, module=module)
    assert bool(seen) == shown


def test_ray_still_says_it_so() -> None:
    """Else the filters are about nothing."""
    ray = pytest.importorskip("ray")
    private = Path(ray.__file__).parent / "_private"
    assert '"Tip: In future versions of Ray, Ray' in (private / "worker.py").read_text()
    assert "torch.from_numpy(np_array)" in (private / "tensor_serialization_utils.py").read_text()


def test_bars_over_a_models_tensors_go_and_other_bars_stay() -> None:
    from transformers import core_model_loading
    from transformers.utils import logging as transformers_logging

    assert 'desc="Loading weights"' in Path(core_model_loading.__file__).read_text()
    shown = {}
    before = transformers_logging.set_tqdm_hook(None)
    try:
        for hidden in (False, True):
            if hidden:
                without_weight_bars()
            for name in ("Loading weights", "Downloading"):
                out = io.StringIO()
                assert list(transformers_logging.tqdm([1, 2], desc=name, file=out)) == [1, 2]
                shown[name, hidden] = name in out.getvalue()
    finally:
        transformers_logging.set_tqdm_hook(before)
    assert shown == {
        ("Loading weights", False): True,
        ("Downloading", False): True,
        ("Loading weights", True): False,
        ("Downloading", True): True,
    }
