"""Runs programs that a model wrote: in a process of their own, confined by the kernel, within limits, with one number as the result.

    outcome = sandbox.run("def solution():\\n    return 3 * 6\\n")        Outcome(status="ok", number="18.0")
    sandbox.capabilities().problems()                                   what this machine's kernel cannot do

`run` may be called from any thread. The servers behind it start at the first call and end with this process, however it ends.
What a program can and cannot do, and what each layer is for: docs/programs.md.
"""

from openrlhf_ext.sandbox.client import Sandbox, capabilities, close, run
from openrlhf_ext.sandbox.outcome import LAYERS, Capabilities, Limits, Outcome, SandboxError

__all__ = ["LAYERS", "Capabilities", "Limits", "Outcome", "Sandbox", "SandboxError", "capabilities", "close", "run"]
