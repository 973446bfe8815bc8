"""What generated households are made of: kinds of receptacles and objects, and what can be done with them.

Words and abilities are those of the ALFRED world in small: things are kept in or on receptacles, some receptacles have to be opened, a
sink cleans, a microwave heats, a fridge cools, a desk lamp gives light.
"""

from __future__ import annotations

OPENABLE = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})
CLEANER, HEATER, COOLER, LAMP = "sinkbasin", "microwave", "fridge", "desklamp"

CLEANABLE = frozenset({"apple", "bowl", "cloth", "cup", "fork", "knife", "mug", "plate", "potato", "soapbar", "spoon"})
HEATABLE = frozenset({"apple", "bread", "cup", "egg", "mug", "plate", "potato", "tomato"})
COOLABLE = frozenset({"apple", "bowl", "bread", "cup", "egg", "lettuce", "mug", "plate", "potato", "tomato"})

PORTABLE: dict[str, tuple[str, ...]] = {
    "kitchen": (
        "apple", "bowl", "bread", "cup", "egg", "fork", "knife", "lettuce", "mug", "plate", "potato", "spoon", "tomato",
    ),
    "bedroom": ("alarmclock", "book", "cd", "cellphone", "creditcard", "keychain", "laptop", "mug", "pen", "pencil"),
    "livingroom": ("book", "box", "creditcard", "keychain", "laptop", "newspaper", "remotecontrol", "statue", "vase"),
    "bathroom": ("candle", "cloth", "soapbar", "soapbottle", "spraybottle", "tissuebox", "toiletpaper"),
}  # fmt: skip
"""Room -> kinds of objects that lie about in it."""

FIXED: dict[str, tuple[str, ...]] = {
    "kitchen": ("countertop", "fridge", "microwave", "sinkbasin"),
    "bedroom": ("bed", "desk"),
    "livingroom": ("sidetable", "sofa"),
    "bathroom": ("sinkbasin", "toilet"),
}
"""Room -> receptacles that every such room has once."""

FURTHER: dict[str, tuple[str, ...]] = {
    "kitchen": ("cabinet", "coffeemachine", "countertop", "diningtable", "drawer", "garbagecan", "shelf", "toaster"),
    "bedroom": ("drawer", "dresser", "garbagecan", "laundryhamper", "safe", "shelf", "sidetable"),
    "livingroom": ("armchair", "cabinet", "coffeetable", "drawer", "garbagecan", "safe", "shelf", "tvstand"),
    "bathroom": ("cabinet", "countertop", "drawer", "garbagecan", "handtowelholder", "shelf"),
}
"""Room -> receptacles that it may have, also several times."""

ROOMS: dict[str, tuple[str, ...]] = {
    "pick_and_place_simple": ("kitchen", "bedroom", "livingroom", "bathroom"),
    "pick_clean_then_place_in_recep": ("kitchen", "bathroom"),
    "pick_heat_then_place_in_recep": ("kitchen",),
    "pick_cool_then_place_in_recep": ("kitchen",),
    "look_at_obj_in_light": ("bedroom", "livingroom"),
    "pick_two_obj_and_place": ("kitchen", "bedroom", "livingroom", "bathroom"),
}
"""ALFWorld's six task types -> rooms in which they are asked."""

ABLE: dict[str, frozenset[str]] = {
    "pick_clean_then_place_in_recep": CLEANABLE,
    "pick_heat_then_place_in_recep": HEATABLE,
    "pick_cool_then_place_in_recep": COOLABLE,
}
"""Task type -> objects for which it can be asked, where not all."""

WORDS = (
    *dict.fromkeys(word for group in (*PORTABLE.values(), *FIXED.values(), *FURTHER.values()) for word in group),
    LAMP,
)
"""Every name of a thing, for small tokenizers."""


def kind(name: str) -> str:
    """ "cabinet" of "cabinet 1"."""
    return name.rpartition(" ")[0]


def is_openable(receptacle: str) -> bool:
    """Whether the receptacle of this name has a door."""
    return kind(receptacle) in OPENABLE
