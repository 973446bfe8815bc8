"""OpenRLHF's modules are imported through the seam, whichever test comes first."""

from openrlhf_ext import upstream

upstream.install()
