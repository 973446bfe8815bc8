"""Broadcast between processes without a common torch.distributed world; threads stand for the processes."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from openrlhf_ext.upstream.gloo import BroadcastGroup


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("world", [2, 3])
def test_every_rank_receives_what_rank_0_sends(world):
    port = free_port()

    def rank(number: int) -> list[torch.Tensor]:
        group = BroadcastGroup("127.0.0.1", port, number, world, timeout_s=60)
        received = []
        for i, dtype in enumerate((torch.float32, torch.bfloat16)):
            values = torch.arange(6).reshape(2, 3).to(dtype) + i
            tensor = values.T if number == 0 else torch.empty(3, 2, dtype=dtype)
            group.broadcast(tensor, src=0)
            received.append(tensor)
        return received

    with ThreadPoolExecutor(world) as pool:
        ranks = list(pool.map(rank, range(world)))
    for received in ranks:
        assert received[0].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert received[1].tolist() == [[1, 4], [2, 5], [3, 6]]


def test_a_receiver_that_could_not_be_written_to_is_refused():
    group = BroadcastGroup.__new__(BroadcastGroup)
    group.rank = 1
    with pytest.raises(ValueError, match=r"must be contiguous, strides are \(1, 3\)"):
        group.broadcast(torch.empty(2, 3).T, src=0)


def test_a_rank_that_never_comes_is_an_error_after_the_deadline():
    with pytest.raises(Exception, match=r"(?i)time"):
        BroadcastGroup("127.0.0.1", free_port(), 0, 2, timeout_s=1)
