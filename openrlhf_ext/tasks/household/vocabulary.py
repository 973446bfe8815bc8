"""The pieces of a small tokenizer for generated households: names with the space before them, and the phrases that the game repeats.

An observation of five hundred letters is about sixty tokens then, and a command four to eight.
"""

from __future__ import annotations

from openrlhf_ext.tasks.household.world import WORDS

_COMMANDS = (
    "go to", "open", "close", "take", "put", "move", "clean", "heat", "cool", "use", "examine", "inventory", "look",
    " from", " in/on", " to", " with",
)  # fmt: skip
_PHRASES = (
    "You are in the middle of a room. Looking quickly around you, you see", "You are facing the", ". Next to it, you see",
    "Your task is to:", "On the", ", you see", "The", " is closed.", " is open. In it, you see", "You open the", "You close the",
    "You pick up the", " from the", "You put the", " in/on the", "You move the", " to the", "You clean the", "You heat the",
    "You cool the", " using the", "You turn on the", "Nothing happens.", "You are carrying:", "You are not carrying anything.",
    "This is a", "There's nothing special about", " nothing", " a", ", a", ", and a", " in", " on", " the", " and", " it", " them",
    " is", " off", " put", " some", " clean", " hot", " cool", " cold", " heat", " two", " find", " look at", " examine", " under",
    "\n> ", ".\n\n",
)  # fmt: skip

PIECES = (*_COMMANDS, *_PHRASES, *(f" {word}" for word in WORDS), *(f" {number}" for number in range(1, 21)))

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ ('' if loop.first else '\n') + message['content'] + '\n> ' }}{% endif %}{% endfor %}"
)
"""Turns as a transcript: an observation, "> " on a line of its own, the command, the end token."""
