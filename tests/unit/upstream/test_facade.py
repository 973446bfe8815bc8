"""What OpenRLHF's modules see as ``torch`` on a CPU."""

import pickle

import pytest
import torch

from openrlhf_ext.upstream import facade
from openrlhf_ext.upstream.facade import CPU_TORCH, torch_here


def test_questions_about_the_device_are_answered_with_the_cpu():
    assert CPU_TORCH.cuda.current_device() == "cpu"
    assert CPU_TORCH.device(f"cuda:{CPU_TORCH.cuda.current_device()}") == torch.device("cpu")
    assert CPU_TORCH.device("meta") == torch.device("meta")
    for wait in (CPU_TORCH.cuda.synchronize, CPU_TORCH.cuda.empty_cache, CPU_TORCH.cuda.current_stream):
        assert wait() is None
    assert CPU_TORCH.cuda.set_device(0) is None


def test_everything_else_is_torch_itself():
    assert CPU_TORCH.Tensor is torch.Tensor
    assert CPU_TORCH.distributed is torch.distributed
    assert CPU_TORCH.cuda.is_available is torch.cuda.is_available
    with pytest.raises(AttributeError, match="no_such_thing"):
        CPU_TORCH.no_such_thing  # noqa: B018


@pytest.mark.parametrize(("no_cuda", "expected"), [(True, CPU_TORCH), (False, torch)])
def test_a_worker_unpickles_the_torch_of_its_own_device(monkeypatch, no_cuda, expected):
    sent = pickle.dumps(CPU_TORCH)
    monkeypatch.setattr(facade, "no_cuda", lambda: no_cuda)
    assert pickle.loads(sent) is expected
    assert torch_here() is expected
