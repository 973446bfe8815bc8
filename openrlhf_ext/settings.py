"""Settings on a command line: ``--section.key VALUE`` words, told apart from a command's own options."""

from __future__ import annotations

from collections.abc import Collection, Sequence

Setting = tuple[str, str]
"""Dotted key and text."""

ABBREVIATIONS = {"task": "task.name"}


def split_settings(words: Sequence[str], own_options: Collection[str]) -> tuple[list[str], list[Setting]]:
    """Separate a command line into the words for argparse and the settings.

    A setting is any ``--name`` that is not in ``own_options``. Its value follows ``=`` or in the next words up to the next
    option (several words make a list); without a value it is ``true``.

    >>> split_settings(["grpo", "--config", "a.yaml", "--eval.steps", "-1", "--run.overwrite"], {"--config"})
    (['grpo', '--config', 'a.yaml'], [('eval.steps', '-1'), ('run.overwrite', 'true')])
    """
    rest: list[str] = []
    settings: list[Setting] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        name, has_value, value = word.partition("=")
        if not word.startswith("--") or word == "--" or name in own_options:
            rest.append(word)
            continue
        if not has_value:
            end = next((i for i in range(position, len(words)) if words[i].startswith("--")), len(words))
            value = ",".join(words[position:end]) or "true"
            position = end
        key = name.removeprefix("--")
        settings.append((ABBREVIATIONS.get(key, key), value))
    return rest, settings
