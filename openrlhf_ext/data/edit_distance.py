"""Levenshtein distance of two texts: insertions, deletions and exchanges of single characters."""


def distance(a: str, b: str) -> int:
    """How many single-character edits turn one text into the other."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(a, b)


def normalised(a: str, b: str) -> float:
    """Edits over the mean length of the two texts; 0 = equal. Two empty texts are equal."""
    return 2 * distance(a, b) / (len(a) + len(b)) if a or b else 0.0
