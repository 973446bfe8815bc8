"""The settings that are ours; every other key is OpenRLHF's own and keeps its name.

Each dataclass is one namespace of the YAML file (``run.``, ``grpo.``, ``evaluation.``); ``task.`` is open, because its keys
belong to the task named in it. Symbols are those of the 24-point project's report; docs/config.md lists every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_type_hints


@dataclass(frozen=True)
class Run:
    """Where a run lives and what it runs on. Read by ``load``, ``plan``, ``launch`` and ``record``."""

    dir: str | None = None
    """Run directory; null = ``runs/<method>-<task>-<UTC time>``."""
    seed: int = 42
    """Seed of data order, sampling and initialisation (rendered into ``train.seed``)."""
    overwrite: bool = False
    """Delete a run that is already in ``dir`` instead of refusing to start."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto = cuda where this machine has a GPU and a CUDA build of torch, else cpu."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Of trainer and engine alike; auto = float32 on CPU, bf16 on GPU."""
    nodes: int = 1
    """Machines for the programs without a rollout (sft, rm, dpo, kto, self-explore)."""
    ranks_per_node: int = 1
    """DeepSpeed ranks per machine for the programs without a rollout."""
    threads: int = 0
    """CPU threads per worker process; 0 = share the cores of a machine among the ranks that work at the same time."""
    kv_cache_gib: int = 1
    """Room for vLLM's key/value cache per engine on CPU, in GiB (GPU: ``vllm.gpu_memory_utilization``)."""
    ray_address: str = "auto"
    """auto = the cluster that RAY_ADDRESS names, else a session of our own; local = always our own; or an address."""
    placement_timeout: float = 300.0
    """Seconds to wait for the placement groups."""
    engine_timeout: float = 900.0
    """Seconds to wait for an engine or a model to come up."""
    sync_timeout: float = 600.0
    """Seconds to wait for one weight sync."""
    step_timeout: float = 3600.0
    """Seconds to wait for one phase of a step: generation, the update, a save."""
    keep_rollouts: int = 1
    """Write the sampled trajectories of every n-th step to ``rollouts/``; 0 = of none."""
    tensorboard: bool = True
    """Log to ``<dir>/tensorboard`` through OpenRLHF's logger."""
    wandb: bool = False
    """Log to Weights & Biases through OpenRLHF's logger; offline unless ``logger.wandb.key`` is given."""


@dataclass(frozen=True)
class TaskOptions:
    """The ``task.`` section: which task, what happens when its verifier breaks, and the task's own keys."""

    name: str | None = None
    on_error: Literal["zero", "drop-group", "fail"] = "zero"
    """A verifier that raises (always counted): give 0, drop the whole group of its prompt, or stop the run."""
    options: dict[str, object] = field(default_factory=dict)
    """The task's own keys as ``tasks.make_task`` takes them, ``name`` included."""


@dataclass(frozen=True)
class Grpo:
    """Group-relative policy optimisation with dynamic reward normalisation (facts: the 24-point report, section on GRPO)."""

    preset: Literal["none", "report", "head"] = "none"
    """A published set of values: ``report`` = the report's and README's run, ``head`` = the code's defaults."""
    max_momentum: float = 0.0
    """m_max: mu and sigma of the rewards run across groups with momentum m <- min(m_max, m + 0.1); 0 = plain GRPO."""
    advantage_eps: float = 1e-4
    """A_i = (r_i - mu) / (sigma + eps)."""
    final_temperature: float | None = None
    """T_end: sampling temperature goes exponentially from ``rollout.temperature`` to this over the run; null = constant."""
    max_steps: int | None = None
    """End after exactly this many rollout batches; null = ``train.num_episodes`` passes over the prompts."""


@dataclass(frozen=True)
class ReverseCurriculum:
    """PPO from start states along a demonstration (facts: R3), made by ``prepare reverse-curriculum --mode mixed``."""

    mode: Literal["mixed", "staged", "plain", "adaptive"] = "mixed"
    """Which start state comes next: all stages shuffled (R3), one after the other, the question alone, or by measured success."""
    budgets: list[int] | None = None
    """staged: start states of stage 0, 1, ..., M - 1; null = the run's, shared evenly. Stage 0 comes last and goes on to the end."""
    adaptive_floor: float = 0.25
    """adaptive: the part of all start states that is spread evenly over the stages."""
    adaptive_memory: float = 64.0
    """adaptive: about how many samples of a stage its measured success is a mean of."""
    whiten: bool = True
    """Bring the advantages of a batch to mean 0, variance 1 (the paper does for mathematics, not for its other tasks)."""
    max_steps: int | None = None
    """End after exactly this many rollout batches; null = ``train.num_episodes`` passes over the rows of the mode."""


@dataclass(frozen=True)
class Oreo:
    """Offline RL with a soft value (facts: OREO), on the trajectories of ``data.prompt_dataset``."""

    level: Literal["token", "step", "response"] = "token"
    """What counts as one action of the policy loss (page: docs/oreo.md)."""
    beta: float = 0.03
    """Weight of the log-ratios to the reference; V* = R - beta sum l."""
    alpha: float | None = None
    """Weight of L_reg, the KL to the reference; null = the paper's for the level: 0.01, 0.1 or 0.3."""
    regulariser: Literal["exact", "sampled"] = "exact"
    """``exact`` = KL over the whole vocabulary, with the reference in memory; ``sampled`` = k3 of the stored actions, without."""
    kl_chunk: int = 256
    """Rows of logits that are held at a time."""
    reward_low: float = 0.0
    """Lowest reward of the data: a failure."""
    reward_high: float = 1.0
    """Highest reward of the data: a success."""
    turn_ends: bool = False
    """Train V also right after every complete turn but the last, where a search over turns reads it."""
    delimiters: list[str] | None = None
    """Where steps end in plain rows; null = where the task cuts. The paper: a line break, for MATH also ". " and ".$ "."""
    reference_model: str | None = None
    """Model that l and the KL refer to; null = the policy's start model."""
    reference_cache: str | None = None
    """sampled: file of the reference's log-probs, which several runs may share; null = in the run directory."""
    critic_lora_rank: int = 0
    """Train the value network by LoRA of this rank on every linear layer, its head among them; 0 = all its weights. 7B runs of the paper: 64."""
    critic_lora_alpha: int | None = None
    """LoRA's updates are scaled by alpha / rank; null = the rank."""
    per_problem: int | None = None
    """Use at most this many successes and failures of a problem, and no more successes than failures; null = all. 7B runs: 4."""
    max_steps: int | None = None
    """End after exactly this many updates; null = ``train.max_epochs`` passes over the trajectories."""


@dataclass(frozen=True)
class Preference:
    """Preference pairs as a model reads them, and where the reference's log-probs come from (page: docs/preference.md)."""

    ends: Literal["chosen", "both", "none"] = "chosen"
    """Behind which side the end token goes. Self-Explore: chosen alone, since a wrong step ends nothing. A text that has it keeps it."""
    bos: bool = False
    """Put the tokenizer's begin token before prompts that do not begin with it."""
    reference: Literal["model", "cached"] = "model"
    """``cached`` = the start model's log-probs are computed once before the first update: no second model is in memory."""
    reference_cache: str | None = None
    """cached: file of these log-probs, which several runs may share; null = in the run directory."""


@dataclass(frozen=True)
class SelfExplore:
    """DPO on the first step of a wrong solution that cannot be saved (facts: Self-Explore)."""

    preset: Literal[
        "none",
        "gsm8k-mistral",
        "gsm8k-llemma",
        "gsm8k-deepseek-math",
        "math-mistral",
        "math-llemma",
        "math-deepseek-math",
    ] = "none"
    """The paper's values for a data set and a base model."""
    rejected: Literal["pit", "suffix"] = "pit"
    """What is unlearned: the first pit alone (the paper), or the wrong solution from it to its end."""


@dataclass(frozen=True)
class Kto:
    """Kahneman-Tversky optimisation: single responses, each good or bad (arXiv:2402.01306)."""

    good_reward: float = 1.0
    """A response with at least this reward is good; data of pairs need no rewards."""
    desirable_weight: float | None = None
    """lambda_D; null = such that good and bad responses weigh the same in sum, the rarer class above 1."""
    undesirable_weight: float | None = None
    """lambda_U; null = as above."""


@dataclass(frozen=True)
class Rllr:
    """PPO with a label-sensitive reward (facts: RLLR): min(label score, tau) + weight * rationale score."""

    preset: Literal["none", "llama2-7b", "llama2-13b", "mistral", "chatglm3", "baichuan2-7b", "bloom7b", "bloom3b"] = (
        "none"
    )
    """The values of the public code's PPO scripts for a model, tau among them."""
    reward: Literal["label", "rationale", "mixed", "exact-match"] = "mixed"
    """The arm: RLLR, RLHF, RLLR-mixed, or the verifier's 0/1 without a reward model."""
    label_model: str | None = None
    """Reward model of label-sensitive pairs; the critic starts from it."""
    rationale_model: str | None = None
    """Reward model of rationale-sensitive pairs."""
    tau: float | None = None
    """mixed: the cap of the label score, on the label model's raw scale; null = what its reward_scale.json suggests."""
    weight: float = 1.0
    """mixed: weight of the rationale score."""
    standardise: bool = False
    """Bring each score to mean 0, deviation 1 by its model's reward_scale.json before they are combined."""
    format_penalty: float = 0.0
    """Taken from the reward of an answer without a readable label line, or cut off, before the running moments; 0 = none (the paper)."""
    normalise: bool = True
    """Bring the reward to mean 0, deviation 1 by the moments of all answers so far."""
    whiten: bool = True
    """Bring the advantages of the whole batch to mean 0, variance 1."""
    kl_target: float | None = 6.0
    """Nats per answer that the KL coefficient is steered to, from ``algo.kl.init_coef`` on; null = a fixed coefficient."""
    kl_horizon: float = 10000.0
    """Answers over which the coefficient moves by the relative error of the KL (at most a fifth of it)."""
    max_steps: int | None = None
    """End after exactly this many rollout batches; null = ``train.num_episodes`` passes over the prompts."""

    @property
    def models(self) -> tuple[str, ...]:
        """Which reward models the arm needs, the critic's start model first."""
        return {"label": ("label",), "rationale": ("rationale",), "mixed": ("label", "rationale")}.get(self.reward, ())


@dataclass(frozen=True)
class Evaluation:
    """Held-out evaluation inside training, every ``eval.steps`` steps: greedy answers to the rows of ``eval.dataset``.

    With ``sample_rows`` also pass@k, k = ``eval.n_samples_per_prompt`` answers at ``eval.temperature``, before and after training.
    """

    at_start: bool = True
    """Evaluate before the first update (if ``eval.dataset`` is given)."""
    at_end: bool = True
    """Evaluate after the last update (if ``eval.dataset`` is given)."""
    limit: int | None = None
    """Use only the first n rows of ``eval.dataset``."""
    sample_rows: int = 0
    """pass@k on the first n of these rows; 0 = no pass@k."""
    keep_best: bool = False
    """Keep the policy with the highest greedy accuracy on ``eval.dataset`` in ``<run.dir>/best``: give a dev split, never the test set."""
    test_dataset: str | None = None
    """Another file that is evaluated at the same steps and only logged, as ``eval/<task>-test/``: nothing is chosen by it."""


NAMESPACES: dict[str, type] = {
    "run": Run,
    "grpo": Grpo,
    "reverse_curriculum": ReverseCurriculum,
    "oreo": Oreo,
    "rllr": Rllr,
    "preference": Preference,
    "self_explore": SelfExplore,
    "kto": Kto,
    "evaluation": Evaluation,
}
"""Namespaces with a fixed set of keys."""

METHOD_NAMESPACES: dict[str, tuple[str, ...]] = {
    "sft": ("run",),
    "dpo": ("run", "preference"),
    "self-explore": ("run", "preference", "self_explore"),
    "kto": ("run", "preference", "kto"),
    "rm": ("run", "preference"),
    "grpo": ("run", "grpo", "evaluation"),
    "reverse-curriculum": ("run", "reverse_curriculum", "evaluation"),
    "oreo": ("run", "oreo"),
    "rllr": ("run", "rllr", "evaluation"),
}
"""Which of them each method reads; all methods accept ``task.``."""


def our_fields(method: str) -> dict[str, tuple[object, object]]:
    """Dotted key -> (type annotation, default) of every key of ours that ``method`` reads, ``task.`` own keys excepted."""
    known: dict[str, tuple[object, object]] = {}
    for namespace in METHOD_NAMESPACES[method]:
        kind = NAMESPACES[namespace]
        hints = get_type_hints(kind)
        known.update({f"{namespace}.{f.name}": (hints[f.name], f.default) for f in fields(kind)})
    hints = get_type_hints(TaskOptions)
    known.update({f"task.{f.name}": (hints[f.name], f.default) for f in fields(TaskOptions) if f.name != "options"})
    return known
