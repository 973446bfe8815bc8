"""Which metrics share a chart, in which order, and what a reader should know about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Panel:
    """One chart. `keys` are metric names or patterns in drawing order; `hide` takes names out of the patterns."""

    section: str
    title: str
    text: str
    keys: tuple[str, ...]
    hide: tuple[str, ...] = ()
    log: bool = False
    zero: bool = False
    stacked: bool = False
    smoothed: bool = True

    def chosen(self, available: Iterable[str]) -> list[str]:
        """The available metric names that belong here, in the panel's order."""
        available = list(available)
        found = [key for pattern in self.keys for key in available if fnmatchcase(key, pattern)]
        hidden = (*self.hide, *QUIET)
        return [key for key in dict.fromkeys(found) if not any(fnmatchcase(key, pattern) for pattern in hidden)]


LEARNING, OPTIMISATION, HEALTH, COST = "Learning", "Optimisation", "Health", "Time and memory"

PANELS = (
    Panel(
        LEARNING,
        "Held-out accuracy",
        "Share of held-out problems solved; bars are 95 % intervals.",
        ("eval/*/accuracy", "eval/*/pass@*"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Reward",
        "Mean over the sampled responses; the band is one standard deviation over samples.",
        ("rollout/reward_mean", "rollout/reward"),
    ),
    Panel(LEARNING, "Held-out reward", "Mean reward of greedy answers to held-out problems.", ("eval/*/reward",)),
    Panel(
        LEARNING,
        "Reward parts",
        "What the reward is made of, before weighting.",
        ("rollout/outcome", "rollout/process", "rollout/length", "rollout/length_reward", "rollout/reward_*"),
        hide=("rollout/reward_mean", "rollout/reward_std"),
    ),
    Panel(
        LEARNING,
        "Solved in training",
        "Share of sampled responses that are correct.",
        ("rollout/correct", "rollout/accuracy", "rollout/pass_rate"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Label accuracy and rationale quality",
        "Of the sampled responses, as the verifier sees them; no part of a learned reward.",
        ("rollout/label_accuracy", "rollout/rationale_quality"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Label score",
        "Of the reward model that looks at the label: mean, quantiles over the responses, and the cap tau.",
        ("rollout/label_score", "rollout/label_score_p*", "rollout/tau"),
    ),
    Panel(
        LEARNING,
        "Rationale score",
        "Of the reward model that looks at the rationale: mean and quantiles over the responses.",
        ("rollout/rationale_score", "rollout/rationale_score_p*"),
    ),
    Panel(
        LEARNING,
        "Labels sure enough",
        "Share of responses whose label score is above tau: there only the rationale still pays.",
        ("rollout/label_capped_share",),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Responses without a label",
        "Share by what they lack: no label line, several, a label outside the set or cut off, text after it.",
        ("rollout/label_missing", "rollout/label_repeated", "rollout/label_unknown", "rollout/label_not_last"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Solved by start state",
        "Share of correct responses from each start state of the demonstrations; stage 0 is the bare question.",
        ("rollout/stage_*/correct",),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Share of each start state",
        "Of the next batch, as the curriculum chooses it.",
        ("rollout/stage_*/share",),
        zero=True,
        smoothed=False,
    ),
    Panel(
        LEARNING,
        "Length by start state",
        "Mean number of generated tokens; the gold prefix does not count.",
        ("rollout/stage_*/response_length",),
    ),
    Panel(
        LEARNING,
        "Response length",
        "Mean number of tokens.",
        ("rollout/response_length_mean", "rollout/response_length", "eval/*/length"),
    ),
    Panel(
        LEARNING,
        "Unfinished",
        "Share of responses that reach no answer.",
        ("rollout/unfinished", "eval/*/unfinished"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Cut off",
        "Share of responses that hit the token limit.",
        ("rollout/truncated_rate", "eval/*/truncated"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Loss",
        "The training objective, and the same on held-out data where it was measured.",
        (
            "train/loss",
            "train/gpt_loss",
            "eval/loss",
            "eval/*/loss",
            "eval/gpt_loss",
            "train/policy_loss",
            "train/actor_loss",
            "train/bellman",
        ),
    ),
    Panel(
        LEARNING,
        "Values of successes and failures",
        "Mean value over the states of trained trajectories; they should part.",
        ("train/value_success", "train/value_failure"),
    ),
    Panel(
        LEARNING,
        "Log-ratio of successes and failures",
        "How much likelier whole trajectories have become than under the reference, in nats.",
        ("train/log_ratio_success", "train/log_ratio_failure"),
    ),
    Panel(
        LEARNING,
        "Preference accuracy",
        "Share of pairs in which the chosen response scores higher.",
        ("train/acc*", "eval/acc*"),
        zero=True,
    ),
    Panel(
        LEARNING,
        "Rewards of both sides",
        "Of DPO and KTO: beta times the log-ratio to the reference; of a reward model: its scores. The sides should part.",
        ("train/reward_chosen", "train/reward_rejected", "train/reward_good", "train/reward_bad"),
    ),
    Panel(
        LEARNING,
        "Margin",
        "Reward of the chosen side above that of the rejected one.",
        ("train/reward_margin", "eval/reward_margin"),
    ),
    Panel(
        LEARNING,
        "Log-probs of both sides",
        "Of whole answers, in nats; a margin can grow while both fall.",
        ("train/logp_chosen", "train/logp_rejected", "train/logp_good", "train/logp_bad"),
    ),
    Panel(
        OPTIMISATION,
        "KL to the reference",
        "How far the policy has moved from its start.",
        ("train/kl", "train/kl_*", "rollout/kl"),
    ),
    Panel(
        OPTIMISATION,
        "Entropy",
        "Of the policy's next-token distribution; near 0 means that it no longer explores.",
        ("train/entropy", "train/entropy_*"),
    ),
    Panel(OPTIMISATION, "Value loss", "Loss of the value model.", ("train/value_loss", "train/critic_loss")),
    Panel(
        OPTIMISATION,
        "Reward normaliser",
        "Running mean and deviation that rewards are scaled by.",
        ("train/normaliser_*",),
    ),
    Panel(OPTIMISATION, "Gradient norm", "Before clipping.", ("train/grad_norm", "train/*_grad_norm"), log=True),
    Panel(
        OPTIMISATION,
        "Clipped share",
        "Share of tokens on which the policy ratio was clipped.",
        ("train/clip*", "train/*clip_ratio"),
    ),
    Panel(OPTIMISATION, "Learning rate", "", ("train/lr", "train/*_lr"), zero=True, smoothed=False),
    Panel(
        HEALTH,
        "Rollout and training log-probs",
        "Difference for the same tokens; it should stay at rounding error.",
        ("health/logprob_gap_mean", "health/logprob_gap_max"),
        log=True,
    ),
    Panel(
        HEALTH,
        "Range of the values",
        "Smallest and largest value of a batch; the optimum lies within the scale of the rewards.",
        ("health/value_min", "health/value_max"),
        smoothed=False,
    ),
    Panel(
        HEALTH,
        "Values outside the scale",
        "Share of states whose value left the scale of the rewards by more than 0.1.",
        ("health/value_outside",),
        zero=True,
    ),
    Panel(
        COST,
        "Time per step",
        "Seconds by phase.",
        ("time/generate", "time/experience", "time/train", "time/sync", "time/eval", "time/*"),
        hide=("time/elapsed", "time/step"),
        stacked=True,
    ),
    Panel(COST, "Memory", "GiB of the driver and of the whole process tree.", ("memory/*",), zero=True),
)

QUIET = (
    "eval/reward_chosen",
    "eval/reward_rejected",
    "eval/reward_good",
    "eval/reward_bad",
    "eval/logp_*",
    "eval/kl_point",
    "rollout/reward_std",
    "rollout/tokens_total",
    "rollout/samples_total",
    "train/tokens_total",
    "train/epoch",
    "time/elapsed",
    "time/step",
    "eval/*count",
    "eval/*/verifier_errors",
    "rollout/verifier_errors",
    "health/sync_digest_ok",
    "health/synced_tensors",
)
"""Metrics that are shown in other forms than a curve of their own."""


NAMES = {
    "rollout/length": "length reward",
    "rollout/truncated_rate": "cut off",
    "health/logprob_gap_mean": "mean",
    "health/logprob_gap_max": "maximum",
    "train/reward_chosen": "chosen",
    "train/reward_rejected": "rejected",
    "train/reward_good": "good",
    "train/reward_bad": "bad",
    "train/logp_chosen": "chosen",
    "train/logp_rejected": "rejected",
    "train/logp_good": "good",
    "train/logp_bad": "bad",
    "train/kl_point": "KTO's reference point",
    "train/value_success": "successes",
    "train/value_failure": "failures",
    "train/log_ratio_success": "successes",
    "train/log_ratio_failure": "failures",
    "health/value_min": "smallest",
    "health/value_max": "largest",
    "memory/driver_gib": "driver",
    "memory/tree_gib": "all processes",
}


def label(key: str, group: Iterable[str] = ()) -> str:
    """A curve's name within its panel: without the prefix, and without the part that all names of the panel share."""
    group = list(group)
    bare = NAMES.get(key, key.split("/", 1)[1].replace("_", " "))
    prefix = key.split("/", 1)[0]
    if bare.startswith("stage ") and len({name.rpartition("/")[2] for name in group}) == 1:
        return bare.partition("/")[0]
    if prefix == "eval":
        suite, _, measure = key.split("/", 1)[1].rpartition("/")
        measures = {name.rpartition("/")[2] for name in group if name.startswith("eval/")}
        suites = {name.split("/", 1)[1].rpartition("/")[0] for name in group if name.startswith("eval/")}
        words = [suite] if suite and (len(suites) > 1 or len(measures) < 2) else []
        words += [measure.replace("_", " ")] if len(measures) > 1 else []
        if any(not name.startswith("eval/") for name in group):
            words.append("held out")
        return " ".join(words) or measure
    if any(name.startswith("eval/") for name in group):
        return "training prompts" if len(group) == 2 else f"{bare} (training)"
    return bare


def leftover(available: Iterable[str]) -> list[str]:
    """Metrics that no panel shows: each gets a small chart of its own, so that nothing recorded stays unseen."""
    available = list(available)
    shown = {key for panel in PANELS for key in panel.chosen(available)}
    return [key for key in available if key not in shown and not any(fnmatchcase(key, pattern) for pattern in QUIET)]
