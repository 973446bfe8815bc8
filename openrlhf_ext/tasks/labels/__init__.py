"""Label tasks, one YAML file each: a closed set of labels, the instruction, how released files are read. Adding a task is adding a file."""

from openrlhf_ext.tasks.labels.line import LabelLine, LabelToy, label_line
from openrlhf_ext.tasks.labels.spec import LABEL_TASKS, LabelSpec, load_spec

__all__ = ["LABEL_TASKS", "LabelLine", "LabelSpec", "LabelToy", "label_line", "load_spec"]
