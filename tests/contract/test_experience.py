"""How OpenRLHF cuts and joins samples: what travels with a sample and what does not (walls W6 and W8 of docs/upstream.md)."""

from dataclasses import dataclass

import pytest
import torch


@pytest.fixture(scope="module")
def experience():
    """upstream's module; importing it loads torch and transformers."""
    from openrlhf.trainer.ppo_utils import experience as module

    return module


def sample(module, length: int, kind=None, **info: float):
    """One sample: a prompt of 2 tokens and ``length`` action tokens, the second of which has no target."""
    advantages = torch.arange(1.0, length + 1).unsqueeze(0)
    advantages[0, 1] = float("nan")
    return (kind or module.Experience)(
        sequences=torch.arange(2 + length).unsqueeze(0),
        attention_mask=torch.ones(1, 2 + length, dtype=torch.long),
        action_mask=torch.ones(1, length, dtype=torch.bool),
        advantages=advantages,
        rewards=torch.tensor([0.5]),
        index=[length],
        prompts=["p"],
        labels=["l"],
        info={name: torch.tensor([value]) for name, value in info.items()},
    )


def test_a_nan_says_no_target_here_and_survives_joining_and_cutting(experience):
    joined = experience.Experience.concat_experiences([sample(experience, 2), sample(experience, 4)], pad_token_id=0)
    assert joined.advantages.shape == (2, 4)
    assert joined.advantages.isnan().tolist() == [[False, True, False, False], [False, True, False, False]]
    cut = experience.split_experience_batch(joined)
    again = experience.make_experience_batch(cut)
    assert [one.advantages.isnan().sum().item() for one in cut] == [1, 1]
    assert again.advantages.isnan().sum().item() == 2
    assert again.advantages[~again.advantages.isnan()].sum().item() == 1 + (1 + 3 + 4)


def test_what_a_sample_carries_in_info_stays_with_it(experience):
    samples = [sample(experience, n, problem_id=float(10 + n)) for n in (3, 2, 4)]
    joined = experience.Experience.concat_experiences(samples, pad_token_id=0)
    cut = experience.split_experience_batch(joined)
    assert [float(one.info["problem_id"]) for one in cut] == [13.0, 12.0, 14.0]
    assert [one.prompts for one in cut] == [["p"]] * 3
    assert [one.index for one in cut] == [None] * 3  # upstream forgets the order here: ids travel in info


def test_a_metric_that_one_sample_lacks_is_an_error(experience):
    samples = [sample(experience, 2, parsed=1.0), sample(experience, 2, parsed=1.0, extra=1.0)]
    joined = experience.Experience.concat_experiences([samples[0], samples[0]], pad_token_id=0)
    experience.split_experience_batch(joined)  # the control: equal keys pass
    broken = experience.Experience.concat_experiences(samples, pad_token_id=0)
    with pytest.raises(ValueError, match=r"info\[extra\] \(1\) does not match batch_size \(2\)"):
        experience.split_experience_batch(broken)


def test_a_field_of_a_subclass_is_dropped(experience):
    @dataclass
    class Marked(experience.Experience):
        mark: int = 0

    samples = [sample(experience, 2, kind=Marked), sample(experience, 2, kind=Marked)]
    for one in samples:
        one.mark = 7
    joined = Marked.concat_experiences(samples, pad_token_id=0)
    assert all(getattr(one, "mark", 0) != 7 for one in experience.split_experience_batch(joined))
