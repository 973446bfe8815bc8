"""Sampling and grading trajectories on engines: append-only, resumable, the same file whatever the engines."""
