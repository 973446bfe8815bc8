"""The methods, one file each. `METHODS` names what `train` can run; adding one is a file here and a line below."""

from openrlhf_ext.methods.base import Recipe
from openrlhf_ext.methods.dpo import DPO
from openrlhf_ext.methods.grpo import GRPO
from openrlhf_ext.methods.kto import KTO
from openrlhf_ext.methods.oreo import OREO
from openrlhf_ext.methods.reverse_curriculum import REVERSE_CURRICULUM
from openrlhf_ext.methods.rllr import RLLR
from openrlhf_ext.methods.rm import RM
from openrlhf_ext.methods.self_explore import SELF_EXPLORE
from openrlhf_ext.methods.sft import SFT

METHODS: dict[str, Recipe] = {
    "sft": SFT,
    "rm": RM,
    "dpo": DPO,
    "kto": KTO,
    "self-explore": SELF_EXPLORE,
    "grpo": GRPO,
    "reverse-curriculum": REVERSE_CURRICULUM,
    "oreo": OREO,
    "rllr": RLLR,
}
