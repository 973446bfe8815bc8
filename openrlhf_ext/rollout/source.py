"""On-policy rollouts: prompts in, graded samples out, in prompt order, with problem and group ids on every sample.

Differs from upstream's generator in four ways: the order of groups does not depend on which engine answered first; log-probs of the
sampled tokens are always recorded (for the rollout/training gap, not for a correction); groups whose verifier failed follow
`task.on_error`; and nothing waits without a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import ray
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator, SamplingParams

from openrlhf_ext.rollout.deadline import wait_for
from openrlhf_ext.rollout.prompts import Prompt, Stream

MAX_WAVES = 50


class VerifierFailed(RuntimeError):
    """A verifier raised and `task.on_error` is ``fail``."""


@dataclass(frozen=True)
class SamplingOptions:
    """How rollouts are sampled. Token counts; ``top_p`` = 1 samples from the full softmax."""

    temperature: float
    top_p: float
    max_new_tokens: int
    min_new_tokens: int
    samples_per_prompt: int
    max_len: int

    def params(self) -> SamplingParams:
        """For the engines. Upstream's name for vLLM's class: on a CPU it is made in the engine, so that the driver needs no vLLM."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_new_tokens,
            min_tokens=self.min_new_tokens,
            skip_special_tokens=False,
            logprobs=0,  # of the sampled token alone
        )


@dataclass
class Rollout:
    """One training batch: ``samples`` (single-sample experiences, group by group) and the same samples as trajectory ``rows``."""

    samples: list[Experience] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    prompts_consumed: int = 0
    groups_filtered: int = 0
    groups_failed: int = 0


class RolloutSource(SamplesGenerator):
    """Samples from the engines what the prompt stream asks."""

    def __init__(
        self,
        strategy,
        stream: Stream,
        tokenizer,
        engines: Sequence[ray.actor.ActorHandle],
        *,
        task_name: str,
        on_error: str = "zero",
        keep_score: Callable[[float], bool] | None = None,
        timeout: float = 600.0,
    ) -> None:
        """``keep_score`` is the dynamic filter: a group stays if it holds for the group's mean correctness."""
        super().__init__(strategy, stream, None, tokenizer, list(engines))
        self.stream = stream
        self.task_name = task_name
        self.on_error = on_error
        self.keep_score = keep_score
        self.timeout = timeout
        self.groups_total = 0
        self._shared_tokenizer = ray.put(tokenizer)

    def sample(self, prompts: Sequence[Prompt], options: SamplingOptions) -> list[list[dict]]:
        """Upstream's response dicts, one list of ``samples_per_prompt`` for each prompt, in order. One wave over all engines."""
        params = options.params()
        refs = [
            self.vllm_engines[i % len(self.vllm_engines)].generate_responses.remote(
                prompt=prompt.text,
                label=prompt.label,
                sampling_params=params,
                max_length=options.max_len,
                hf_tokenizer=self._shared_tokenizer,
                num_samples=options.samples_per_prompt,
            )
            for i, prompt in enumerate(prompts)
        ]
        return wait_for(refs, f"sampling {len(prompts)} prompts x {options.samples_per_prompt}", self.timeout)

    def rollout(self, num_prompts: int, options: SamplingOptions, *, step: int, policy: str) -> Rollout:
        """``num_prompts`` whole groups; dropped or filtered groups are replaced by the stream's next prompts."""
        result = Rollout()
        kept = 0
        for _ in range(MAX_WAVES):
            prompts = self.stream.take(num_prompts - kept)
            result.prompts_consumed += len(prompts)
            for prompt, responses in zip(prompts, self.sample(prompts, options), strict=True):
                if self._keeps(responses, result):
                    self._append(result, prompt, responses, options, step, policy)
                    kept += 1
                self.groups_total += 1
            if kept == num_prompts:
                return result
        raise RuntimeError(
            f"only {kept} of {num_prompts} groups were usable after {MAX_WAVES} waves ({result.groups_filtered} filtered, "
            f"{result.groups_failed} with a failing verifier): widen algo.dynamic_filtering_range or look at the verifier errors"
        )

    def _keeps(self, responses: list[dict], result: Rollout) -> bool:
        errors = [r["verifier_error"] for r in responses if r["verifier_error"]]
        if errors and self.on_error == "fail":
            raise VerifierFailed(
                f"the verifier of task {self.task_name} failed and task.on_error is fail:\n{errors[0]}"
            )
        if errors and self.on_error == "drop-group":
            result.groups_failed += 1
            return False
        if self.keep_score is not None and not self.keep_score(sum(r["scores"] for r in responses) / len(responses)):
            result.groups_filtered += 1
            return False
        return True

    def _append(
        self, result: Rollout, prompt: Prompt, responses: list[dict], options: SamplingOptions, step: int, policy: str
    ) -> None:
        for sample, response in enumerate(responses):
            experience = self._process_response_into_experience(response, max_len=options.max_len)
            ids = {"problem_id": prompt.problem_id, "group_id": self.groups_total, "sample": sample}
            # `info` is what survives upstream's concat and split; it holds one number per sample.
            experience.info |= {name: torch.tensor([float(value)]) for name, value in ids.items()}
            result.samples.append(experience)
            result.rows.append(trajectory_row(response, task=self.task_name, policy=policy, step=step, **ids))


def trajectory_row(response: dict, **extra: object) -> dict:
    """The response dict as one trajectory row of ``docs/formats.md``: plain values, decoded text beside the tokens."""
    row = {
        "id": f"{extra['step']}-{extra['group_id']}-{extra['sample']}",
        "prompt": response["prompt"],
        "label": response["label"],
        "text": response["text"],
        "observation_tokens": list(response["observation_tokens"]),
        "action_ranges": [list(span) for span in response["action_ranges"]],
        "rollout_log_probs": response["rollout_log_probs"],
        "reward": response["reward"],
        "scores": response["scores"],
        "truncated": bool(response["truncated"]),
        "extra_logs": response["extra_logs"],
    }
    for key in ("verifier_error", "wrong_lines"):
        if response.get(key) is not None:
            row[key] = response[key]
    return row | extra
