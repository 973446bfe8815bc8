"""Turn what a YAML file or a command line holds into the type a key wants, or say why that cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable

from openrlhf_ext.config.knobs import Kind, Knob
from openrlhf_ext.config.read import parse_yaml_value

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def coerce(knob: Knob, value: object) -> object:
    """``value`` as ``knob`` wants it.

    Raises:
        ValueError: with what the key accepts; the caller adds which key it was and where it stood.
    """
    if value is None or (value == "null" and knob.optional):
        _allow_null(knob)
        return None
    if knob.count is not None:
        return _list(knob, value)
    return _scalar(knob, value)


def coerce_open(value: object) -> object:
    """A ``task.*`` value, whose type only the task knows: text is read as YAML, ``a,b`` as a list."""
    if not isinstance(value, str):
        return value
    if "," in value and value[:1] not in "[{\"'":
        return [parse_yaml_value(part) for part in value.split(",")]
    return parse_yaml_value(value)


def _allow_null(knob: Knob) -> None:
    # OpenRLHF turns an empty template into none, so null is a legal way to switch its default template off.
    if not knob.optional and knob.key != "data.input_template":
        raise ValueError(f"null is not allowed; default {knob.default!r}")


def _list(knob: Knob, value: object) -> object:
    if isinstance(value, str):
        if value == knob.default:
            return value
        value = [part.strip() for part in value.strip("[]() ").split(",")]
    if not isinstance(value, (list, tuple)):
        value = [value]
    if knob.count and len(value) != knob.count:
        raise ValueError(f"takes {knob.count} values, got {len(value)}: {value}")
    return [_scalar(knob, item) for item in value]


def _scalar(knob: Knob, value: object) -> object:
    if isinstance(value, (list, dict)):
        raise ValueError(f"takes one {knob.kind}, got {value!r}")
    # YAML 1.1 reads a bare `off` as false; where `off` is a choice, that is what was meant.
    if value is False and "off" in knob.choices:
        value = "off"
    result = _CASTS[knob.kind](value)
    if knob.choices and result not in knob.choices:
        raise ValueError(f"takes one of {', '.join(map(str, knob.choices))}; got {value!r}")
    return result


def _int(value: object) -> int:
    number = _finite_or_inf(value, "a whole number")
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"takes a whole number, got {value!r}")
    return int(number)


def _float(value: object) -> float:
    return _finite_or_inf(value, "a number")


def _finite_or_inf(value: object, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"takes {wanted}, got {value!r}")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"takes {wanted}, got {value!r}") from None
    if math.isnan(number):
        raise ValueError(f"takes {wanted}, got nan")
    return number


def _bool(value: object) -> bool:
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"takes true or false, got {value!r}")


_CASTS: dict[Kind, Callable[[object], object]] = {"int": _int, "float": _float, "bool": _bool, "str": str}
