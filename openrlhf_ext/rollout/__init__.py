"""Sampling: the executor inside the engines, the prompt stream, the rollout source and the engines themselves."""
