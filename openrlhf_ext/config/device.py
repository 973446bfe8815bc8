"""What a machine without a GPU forces, and what precision forces: defaults that follow, and values that cannot work."""

from __future__ import annotations

from openrlhf_ext.config.problem import Problem

CPU_ONLY: dict[str, tuple[tuple[object, ...], str]] = {
    "ds.attn_implementation": (("sdpa", "eager"), "flash attention is a CUDA kernel"),
    "vllm.sync_backend": (("gloo",), "NCCL needs GPUs"),
    "vllm.enforce_eager": ((True,), "there are no CUDA graphs"),
    "vllm.enable_sleep": ((False,), "vLLM's CPU build has no sleep mode"),
    "vllm.sync_with_ray": ((False,), "weights travel over gloo"),
    "vllm.tensor_parallel_size": ((1,), "one engine is one process"),
    "ds.enable_sleep": ((False,), "there is no GPU memory to free"),
    "ds.packing_samples": ((False,), "packing needs flash attention"),
    "ds.ring_attn_size": ((1,), "ring attention needs flash attention"),
    "ds.tensor_parallel_size": ((1,), "DeepSpeed's tensor parallel needs GPUs"),
    "ds.use_liger_kernel": ((False,), "its kernels are Triton"),
    "ds.load_in_4bit": ((False,), "bitsandbytes needs CUDA"),
    "ds.adam_offload": ((False,), "the optimiser already lives in main memory"),
    "ds.overlap_comm": ((False,), "it uses CUDA streams"),
    "ds.deepcompile": ((False,), "it compiles CUDA graphs"),
    "train.dynamic_batch_enable": ((False,), "it packs sequences, which needs flash attention"),
    "train.enable_ema": ((False,), 'OpenRLHF 0.11.2 moves the average to "cuda"'),
    "ref.offload": ((False,), "there is nothing to offload from"),
    "reward.offload": ((False,), "there is nothing to offload from"),
}
"""Key -> (values that work on CPU, the first one being the default there; why)."""


def defaults(device: str, precision: str, known: set[str]) -> dict[str, object]:
    """Values that OpenRLHF's own defaults must give way to on ``device``; only keys in ``known``."""
    if device == "cpu":
        return {key: allowed[0] for key, (allowed, _) in CPU_ONLY.items() if key in known}
    if precision == "float32":
        return {"ds.attn_implementation": "sdpa"}
    return {}


def precision_of(wanted: str, device: str) -> str:
    """``auto`` resolved: float32 on CPU (bf16 is emulated there: slower, and engine and trainer differ), bf16 on GPU."""
    if wanted != "auto":
        return wanted
    return "float32" if device == "cpu" else "bf16"


def device_problems(device: str, precision: str, values: dict[str, object], origins: dict[str, str]) -> list[Problem]:
    """Explicit values that ``device`` or ``precision`` cannot honour."""
    found = []
    for key, (allowed, why) in CPU_ONLY.items() if device == "cpu" else ():
        if key in values and values[key] not in allowed:
            what = f"{_text(values[key])} does not work without a GPU: {why}"
            found.append(Problem(_where(key, origins), what, f"--{key} {_text(allowed[0])}, or leave it out"))
    if device == "cuda" and precision == "float32":
        if "flash" in str(values.get("ds.attn_implementation")):
            what = f"{values['ds.attn_implementation']} computes in 16 bits, but run.precision is float32"
            found.append(
                Problem(
                    _where("ds.attn_implementation", origins),
                    what,
                    "--ds.attn_implementation sdpa, or --run.precision bf16",
                )
            )
        for key in ("ds.packing_samples", "train.dynamic_batch_enable"):
            if values.get(key):
                what = "needs flash attention, which computes in 16 bits, but run.precision is float32"
                found.append(Problem(_where(key, origins), what, f"--{key} false, or --run.precision bf16"))
    return found


def _where(key: str, origins: dict[str, str]) -> str:
    return f"{key} ({origins[key]})" if key in origins else key


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
