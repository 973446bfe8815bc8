"""Engines wider than one GPU lie on one node, however Ray dealt the bundles out."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.cluster import Cluster, Node
from openrlhf_ext.config.load import load
from openrlhf_ext.plan import make_plan
from openrlhf_ext.upstream.bundles import bundles_by_node, spread


def test_interleaved_nodes_are_sorted_apart():
    nodes = {0: "a", 1: "b", 2: "a", 3: "b", 4: "b", 5: "a", 6: "a", 7: "b"}
    assert bundles_by_node(nodes, 4, 2) == [0, 2, 5, 6, 1, 3, 4, 7]
    assert bundles_by_node(nodes, 2, 4) == [0, 2, 5, 6, 1, 3, 4, 7]
    assert bundles_by_node(nodes, 1, 2) == [0, 2]


def test_the_order_in_which_ray_lists_the_bundles_does_not_matter():
    assert bundles_by_node({3: "b", 1: "b", 2: "a", 0: "a"}, 2, 2) == [0, 2, 1, 3]


def test_what_is_left_over_on_a_node_is_skipped():
    nodes = dict(enumerate("aaabbbbb"))  # cutting the list by twos would give engine 1 bundle 2 of a and bundle 3 of b
    assert bundles_by_node(nodes, 3, 2) == [0, 1, 3, 4, 5, 6]


def test_an_engine_that_fits_on_no_node_is_an_error_with_the_numbers():
    nodes = dict(enumerate("aaabbbbb"))
    with pytest.raises(ValueError, match=r"4 engines of 2 GPUs each, but only 3 .* lie 3 \+ 5 per node"):
        bundles_by_node(nodes, 4, 2)
    with pytest.raises(ValueError, match="1 engines of 8 GPUs each, but only 0"):
        bundles_by_node(nodes, 1, 8)


def test_spread_counts_in_order_of_appearance():
    assert spread({2: "x", 0: "y", 1: "y"}) == "2 + 1"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=24), st.integers(1, 4), st.integers(1, 6))
def test_engines_are_whole_on_one_node_or_there_is_no_way(dealt, width, engines):
    nodes = dict(enumerate(dealt))
    possible = sum(count // width for count in Counter(dealt).values())
    if engines > possible:
        with pytest.raises(ValueError, match=f"only {possible} of them"):
            bundles_by_node(nodes, engines, width)
        return
    order = bundles_by_node(nodes, engines, width)
    assert len(order) == len(set(order)) == engines * width
    for i in range(engines):
        assert len({nodes[bundle] for bundle in order[i * width : (i + 1) * width]}) == 1


def plan(engines: int, width: int):
    wanted = {"task.name": "game24", "vllm.num_engines": engines, "vllm.tensor_parallel_size": width}
    return make_plan(load("grpo", None, [(k, str(v)) for k, v in wanted.items()], local_device="cuda"), "cuda")


def test_the_plan_refuses_engines_that_no_placement_can_keep_whole():
    three = Cluster(tuple(Node(f"node {i}", cpus=48, gpus=3) for i in range(5)))  # room for 5 pairs, whatever Ray does
    assert plan(5, 2).problems(three) == []
    [(where, what, fix)] = plan(6, 2).problems(three)
    assert (where, what) == (
        "vllm.tensor_parallel_size",
        "6 engines of 2 GPUs, but the nodes have room for 5 whole ones",
    )
    assert "fewer engines" in fix
