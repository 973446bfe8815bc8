"""The value that the published reward code gives to text, without evaluating it.

That code handed model text to Python, so underscores in numbers, floats, exponents, `**`, `//` and `%` counted. The same
arithmetic is re-implemented here on a syntax tree of numbers and operators only, with bounded sizes.
"""

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable

MAX_CHARS = 400
MAX_BITS = 4096

Real = int | float

_ALLOWED = re.compile(r"[0-9_eE.+\-*/%() \t]*", re.ASCII)
_BINARY: dict[type[ast.operator], Callable[[Real, Real], Real]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class NoValue(ValueError):
    """The text is not arithmetic, has no finite real value or is too large to compute."""


def python_value(text: str) -> Real:
    """The value of the text as Python arithmetic. Raises NoValue."""
    text = text.strip()
    if len(text) > MAX_CHARS or not _ALLOWED.fullmatch(text):
        raise NoValue("not arithmetic, or too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
        value = _value(tree.body)
    except (SyntaxError, ArithmeticError, MemoryError, RecursionError) as error:
        raise NoValue(str(error)) from error
    if not math.isfinite(value):
        raise NoValue(f"{value}")
    return value


def _value(node: ast.expr) -> Real:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if type(node.op) in _BINARY:
            return _bounded(_BINARY[type(node.op)](left, right))
    raise NoValue(f"{type(node).__name__} is not arithmetic")


def _power(base: Real, exponent: Real) -> Real:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        if base.bit_length() * exponent > MAX_BITS:
            raise NoValue("power too large")
        return base**exponent
    value = float(base) ** float(exponent)
    if isinstance(value, complex):
        raise NoValue("complex power")
    return value


def _bounded(value: Real) -> Real:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise NoValue("integer too large")
    return value
