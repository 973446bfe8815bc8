"""Reading a task's options (`task.*` keys): typed values, and every problem reported at once."""

import difflib
import math
from collections.abc import Mapping, Sequence

COMMON_KEYS = frozenset({"name", "on_error"})


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A suggestion for a misspelt word, or the list of known ones."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


class OptionReader:
    """Takes options one by one, each with its default; `finish` raises ValueError with all problems.

    Values may be typed (from YAML) or strings (from a command line); nested sections and dotted keys mean the same.
    """

    def __init__(self, task: str, options: Mapping[str, object]):
        self._task = task
        self._given = {key: value for key, value in _flatten(options).items() if key not in COMMON_KEYS}
        self._known: list[str] = []
        self._problems: list[str] = []

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        value = str(self._take(key, default))
        if value not in choices:
            self._problem(key, value, did_you_mean(value, choices))
            return default
        return value

    def number(self, key: str, default: float, minimum: float = -math.inf, maximum: float = math.inf) -> float:
        value = self._take(key, default)
        parsed = _finite(value)
        if parsed is None or not minimum <= parsed <= maximum:
            self._problem(key, value, f"give a number from {minimum} to {maximum}")
            return default
        return parsed

    def integer(self, key: str, default: int, minimum: int, maximum: int) -> int:
        value = self.number(key, default, minimum, maximum)
        if value != int(value):
            self._problem(key, value, "give a whole number")
        return int(value)

    def numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """As many numbers as the default has; a list, or a string with commas."""
        value = self._take(key, default)
        items = value.strip("[]() ").split(",") if isinstance(value, str) else value
        parsed = [_finite(item) for item in items] if isinstance(items, (list, tuple)) else []
        if len(parsed) != len(default) or None in parsed:
            self._problem(key, value, f"give {len(default)} numbers such as {','.join(map(str, default))}")
            return default
        return tuple(number for number in parsed if number is not None)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        parsed = words.get(str(value).lower())
        if parsed is None:
            self._problem(key, value, "give true or false")
            return default
        return parsed

    def text(self, key: str, default: str) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            self._problem(key, value, "give text")
            return default
        return value

    def finish(self) -> None:
        """Raises ValueError if an option was wrong or unknown."""
        for key in self._given:
            self._problems.append(
                f"task.{key}: the task {self._task!r} has no such option; {did_you_mean(key, self._known)}"
            )
        if self._problems:
            raise ValueError("\n".join(self._problems))

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._given.pop(key, default)

    def _problem(self, key: str, value: object, fix: str) -> None:
        self._problems.append(f"task.{key}={value!r}: {fix}")


def _flatten(options: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
