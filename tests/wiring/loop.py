"""A whole run of a rollout method with its workers played.

The stream, the source, the method, its experience maker, the run directory and the checkpoints are the real ones; policy, critic, reference
and engines answer with plain values, and every step takes a few milliseconds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ext.config.schema import Grpo
from openrlhf_ext.evaluate.heldout import HeldOut
from openrlhf_ext.methods.base import RolloutMethod
from openrlhf_ext.methods.grpo import GroupRelative
from openrlhf_ext.methods.grpo_maker import GrpoExperienceMaker
from openrlhf_ext.record.progress import Progress
from openrlhf_ext.record.run_dir import RunDir, read_metrics
from openrlhf_ext.rollout.prompts import Prompt
from openrlhf_ext.rollout.source import RolloutSource, SamplingOptions
from openrlhf_ext.trainer import RolloutTrainer, Schedule
from tests.wiring import samples

STEPS, BATCH, SAMPLES, ROWS = 6, 2, 3, 5
OPTIONS = SamplingOptions(
    temperature=1.0, top_p=0.9, max_new_tokens=4, min_new_tokens=1, samples_per_prompt=SAMPLES, max_len=16
)
LABEL = '{"answer": "7"}'
PROMPTS = [Prompt(i, str(i), LABEL, "chain") for i in range(ROWS)]


class Killed(BaseException):
    """Like SIGKILL: nothing of the run's own handling runs."""


def kill_at(where: str, time: int) -> Callable[[str], None]:
    """A ``before`` that ends the run when ``where`` is about to happen the ``time``-th time."""
    seen: list[str] = []

    def kill(name: str) -> None:
        seen.append(name)
        if name == where and seen.count(name) == time:
            raise Killed

    return kill


class Policy:
    """The ranks of a trained group: a number of updates as their whole state; their loss shows what they were given to train on."""

    called = ""
    """What stands before the names of its calls, as ``before`` hears them."""
    file = "policy.json"

    def __init__(self, before: Callable[[str], None]) -> None:
        self.before, self.updates, self.sent = before, 0, 0
        self.buffer: list[Experience] = []
        self.temperatures: list[float] = []
        self.calls: list[str] = []

    def async_run_method(self, method_name: str, *args: object, **kwargs: object) -> list[object]:
        self.calls.append(method_name)
        self.before(self.called + method_name)
        return [getattr(self, method_name)(*args, **kwargs)]

    def async_run_method_batch(self, method_name: str, **batches: list) -> list[object]:
        self.calls.append(method_name)
        self.before(self.called + method_name)
        if method_name == "append":
            self.buffer += batches["experience"]
            return []
        return [[torch.full(mask.shape, self.output()) for mask in batches["action_mask"]]]

    def output(self) -> float:
        """What the forward pass gives for every token."""
        return -0.5

    def learn(self) -> float:
        """Count an update; what stands for its loss is a sum over everything given since the last one."""
        self.updates += 1
        given, self.buffer = self.buffer, []
        return sum((e.advantages * e.returns).sum().item() for e in given)

    def drop_experience(self) -> None:
        self.buffer = []

    def fit(self, kl_ctl: float) -> dict:
        return {"policy_loss": self.learn(), "actor_lr": 1.0 / self.updates, "kl": 0.0}

    def sync_engines(self) -> int:
        self.sent = self.updates
        return 26

    def set_temperature(self, value: float) -> None:
        self.temperatures.append(value)

    def save_state(self, directory: str, client_state: dict) -> None:
        self.before(self.called + "half saved")
        (Path(directory) / self.file).write_text(json.dumps({"updates": self.updates} | client_state))

    def load_state(self, directory: str) -> dict:
        state = json.loads((Path(directory) / self.file).read_text())
        self.updates = state["updates"]
        return state

    def save_hf(self, directory: str) -> None:
        Path(directory).mkdir(parents=True)
        self.before("half exported")
        (Path(directory) / "model.safetensors").write_text(str(self.updates))


class Critic(Policy):
    """Its values and losses follow its own number of updates."""

    called = "critic "
    file = "critic.json"

    def output(self) -> float:
        return 0.1 * self.updates

    def fit(self) -> dict:  # type: ignore[override]
        return {"critic_loss": self.learn(), "values": 0.1 * self.updates, "critic_lr": 0.5 / self.updates}


class Engine:
    """Grades by prompt and sample alone, so that any two runs over the same prompts earn the same; greedily by ``right``."""

    def __init__(self, before: Callable[[str], None], policy: Policy, right: Callable[[int, int], bool]) -> None:
        self.before, self.policy, self.right, self.asked = before, policy, right, []
        self.generate_responses = SimpleNamespace(remote=self._generate)

    def _generate(self, *, prompt, label, sampling_params, max_length, hf_tokenizer, num_samples) -> list[dict]:
        self.asked.append((prompt, num_samples, sampling_params.temperature, sampling_params.top_p))
        self.before("generate")
        number = int(prompt)
        greedy = sampling_params.temperature == 0
        right = self.right(number, self.policy.sent) if greedy else True
        return [self._response(prompt, label, i, (number * (i + 1)) % 5 / 4, right) for i in range(num_samples)]

    def _response(self, prompt: str, label: str, sample: int, reward: float, right: bool) -> dict:
        length = 1 + (int(prompt) + sample) % 3
        return {
            "prompt": prompt,
            "label": label,
            "text": "#### 7" if sample == 0 and right else "#### 8",
            "observation_tokens": [5, 6, *[4] * length],
            "action_ranges": [(2, 2 + length)],
            "rollout_log_probs": [0.0, 0.0, *[-0.5] * length],
            "reward": reward,
            "scores": float(reward >= 1),
            "truncated": False,
            "verifier_error": None,
            "extra_logs": {"correct": float(reward >= 1), "verifier_error": 0.0},
        }


def run(
    folder: Path,
    *,
    before: Callable[[str], None] = lambda name: None,
    resume: bool = False,
    heldout: Sequence[HeldOut] = (),
    right: Callable[[int, int], bool] = lambda prompt, updates: True,
    options: SamplingOptions = OPTIONS,
    prompts: Sequence[Prompt] = PROMPTS,
    method: RolloutMethod | None = None,
    maker_class: type = GrpoExperienceMaker,
    arguments: Mapping[str, object] | None = None,
    critic: bool = False,
    **schedule: object,
) -> tuple[RolloutTrainer, Policy, Engine]:
    """A run to its end; with ``resume`` it goes on in ``folder``.

    ``before`` hears of every call of a worker before it is answered. ``right``: whether the greedy answer to a prompt (its number) is
    right once the engines hold weights of so many updates. ``arguments``: of upstream, with `__` for dots. Without ``method``: GRPO.
    """
    args = samples.arguments(
        **{
            "algo__kl__target": None,
            "algo__kl__init_coef": 0.01,
            "ckpt__best_metric_key": None,
            "critic__freezing_steps": -1,
            "ds__enable_sleep": False,
            "logger__tensorboard_dir": None,
            "logger__wandb__key": None,
            "rollout__batch_size": BATCH,
            "rollout__n_samples_per_prompt": options.samples_per_prompt,
            "train__colocate_all": False,
            "train__colocate_actor_ref": False,
            "train__colocate_critic_reward": False,
            "vllm__enable_sleep": False,
        }
        | dict(arguments or {})
    )
    policy = Policy(before)
    engine = Engine(before, policy, right)
    method = method or GroupRelative(Grpo(max_momentum=0.2))
    strategy = SimpleNamespace(args=args)
    tokenizer = SimpleNamespace(pad_token_id=0, decode=lambda ids, **_: ["text"])
    stream = method.stream(prompts, 1)
    owned = RunDir.create(folder, "run: {}\n", {}, resume=resume)
    made = RolloutTrainer(
        strategy=strategy,
        actor_group=policy,
        reference_group=Policy(lambda name: None),
        critic_group=Critic(before) if critic else None,
        engines=[engine],
        tokenizer=tokenizer,
        source=RolloutSource(strategy, stream, tokenizer, [engine], task_name="chain"),
        sampling=options,
        schedule=Schedule(**{"steps": STEPS, "save_every": 2, "keep_checkpoints": 2} | schedule),
        heldout=heldout,
        run=owned,
        progress=Progress(STEPS, "test", stream=io.StringIO()),
        maker_class=maker_class,
        method=method,
    )
    with owned:
        made.fit()
    return made, policy, engine


def problem_ids(folder: Path) -> dict[int, list[int]]:
    """Step -> problem ids of its groups, from the kept rollouts."""
    found = {}
    for path in sorted((folder / "rollouts").glob("step_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[rows[0]["step"]] = [row["problem_id"] for row in rows if row["sample"] == 0]
    return found


def comparable(folder: Path) -> list[dict]:
    """Metric rows without what depends on the clock or the machine."""
    volatile = ("time", "memory/")
    return [
        {k: v for k, v in row.items() if not k.startswith(volatile)} for row in read_metrics(folder / "metrics.jsonl")
    ]


def state(folder: Path) -> dict:
    """The trainer's state in the newest checkpoint."""
    return json.loads(max((folder / "checkpoints").glob("step_*/trainer.json")).read_text())
