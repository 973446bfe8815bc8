"""Reasoning-RL methods on top of the released OpenRLHF."""

__version__ = "0.1.0"
