"""OREO (Wang et al. 2024, arXiv:2412.16145): a policy and a value network trained on stored trajectories, right and wrong.

No engine takes part. A step takes `train.batch_size` trajectories through one update of each network: the value network says V, the policy
learns with it, the value network learns with the policy's log-ratios of before that update (losses/oreo.py).

Run: ``openrlhf-ext train oreo --config examples/configs/oreo_chain_tiny.yaml``
"""

from __future__ import annotations

from openrlhf_ext.methods.base import Recipe

OREO = Recipe("oreo", program="ppo", kind="offline")
