"""The 24-point game: combine the given numbers with + - * / into the target, every number exactly once."""
