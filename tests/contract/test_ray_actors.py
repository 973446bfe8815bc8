"""Ray still lets a decorated class be reopened: subclass it, call super, ship it, call it."""

import sys

import pytest
import ray

from openrlhf_ext.upstream.actors import gather, undecorated

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@ray.remote(num_gpus=1)
class Base:
    """Decorated as OpenRLHF's actors are."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, more: int) -> int:
        self.value += more
        return self.value


class Doubling(undecorated(Base)):
    def __init__(self, start: int) -> None:
        super().__init__(10 * start)

    def add(self, more: int) -> int:
        return super().add(2 * more)

    def fail_after(self, seconds: float) -> None:
        import time

        time.sleep(seconds)
        raise KeyError(f"after {seconds}")


@pytest.fixture(scope="module")
def session():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 * 2**20,
    )
    yield
    ray.shutdown()


def test_a_decorated_class_itself_cannot_be_subclassed():
    with pytest.raises(TypeError):

        class Sub(Base):
            pass


def test_the_reopened_class_is_the_plain_one():
    plain = undecorated(Base)
    assert plain(1).add(2) == 3
    assert "__ray_terminate__" not in vars(plain)


def test_a_reopened_subclass_runs_in_another_process(session):
    actor = ray.remote(Doubling).remote(1)
    assert ray.get(actor.add.remote(3), timeout=120) == 16


def test_the_first_failure_of_a_group_is_raised_before_the_others_are_done(session):
    import time

    quick, slow = (ray.remote(Doubling).options(num_cpus=0.5).remote(0) for _ in range(2))
    ray.get([quick.add.remote(0), slow.add.remote(0)], timeout=120)
    started = time.monotonic()
    with pytest.raises(KeyError, match=r"after 0\.1"):
        gather([slow.fail_after.remote(30), quick.fail_after.remote(0.1)])
    assert time.monotonic() - started < 20
    with pytest.raises(TimeoutError, match=r"1 of 1 ranks were not done after 0\.2 s"):
        gather([slow.add.remote(1)], timeout_s=0.2)
    assert gather([quick.add.remote(1), quick.add.remote(1)], timeout_s=60) == [2, 4]
