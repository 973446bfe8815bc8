"""One step through upstream's own classes, with Ray, DeepSpeed and the engines played by small stand-ins."""

from openrlhf_ext import upstream

upstream.install()
