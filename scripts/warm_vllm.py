"""Fills vLLM's cache of model facts for the architectures that the shipped configs use.

vLLM imports a model's module in a subprocess the first time it meets the architecture, and keeps what it learns under
its cache folder (VLLM_CACHE_ROOT, by default ~/.cache/vllm), keyed by the module's source. The subprocess only keeps
CUDA out of the asking process; without a GPU one import of vLLM serves all architectures. These are private names of
vLLM 0.29.0: scripts/setup.sh takes a failure here as a slower first engine start, not as a failed set-up.
"""

from vllm.model_executor.models import registry

ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM")

registry._run_in_subprocess = lambda ask: ask()
for name in ARCHITECTURES:
    registry.ModelRegistry.models[name].inspect_model_cls()
