"""A dev split of demonstrations: what chooses a checkpoint is neither trained on nor the test set."""

import random
from collections.abc import Sequence

from openrlhf_ext.data.reverse import Demonstration


def hold_out(
    demonstrations: Sequence[Demonstration], count: int, seed: int
) -> tuple[list[Demonstration], list[Demonstration]]:
    """(training, dev) in their order; `count` demonstrations drawn by the seed, never one question in both.

    A demonstration whose question is held out is in neither part, unless it was drawn itself. The same file, count and seed give the
    same split, whatever is made of it. Raises ValueError where nothing would be left to train on.
    """
    if count == 0:
        return list(demonstrations), []
    chosen = set(random.Random(seed).sample(range(len(demonstrations)), min(count, len(demonstrations))))
    dev = [demonstration for i, demonstration in enumerate(demonstrations) if i in chosen]
    questions = {demonstration.question for demonstration in dev}
    training = [demonstration for demonstration in demonstrations if demonstration.question not in questions]
    if not training:
        raise ValueError(
            f"--hold-out {count} of {len(demonstrations)} demonstrations leaves none to train on: hold out fewer"
        )
    return training, dev
