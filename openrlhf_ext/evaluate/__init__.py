"""Evaluation: held-out problems inside training, suites by command, statistics."""
