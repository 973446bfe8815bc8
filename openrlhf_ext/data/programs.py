"""Programs made of worked solutions: GSM8K's `<<48/2=24>>` marks, SVAMP's equations. Nothing is run or evaluated here.

A number that is an earlier mark's result, and that the question does not name, becomes that result's name. Names come from the words behind
the mark: `<<48/2=24>>24 clips in May` gives `clips_in_may = 48 / 2`.
"""

import ast
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from openrlhf_ext.tasks.math_word import rational
from openrlhf_ext.tasks.program import program_head

MAX_NAME_WORDS = 3
MAX_EXPRESSION_CHARS = 200
MAX_POWER = 12
MAX_NAME_CHARS = 32
TOLERANCE = Fraction(1, 100)

_MARK = re.compile(r"<<([^<>]*)>>\s*[$€£]?[-0-9.,/]*%?([^<>\n]*)")
_NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+")
_PERCENT = re.compile(r"((?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+))\s*%")
_WORD = re.compile(r"[A-Za-z]+")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.FloorDiv, ast.USub, ast.UAdd)
_SIGNS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_SMALL_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at by for from he her his in is it of on or per she so than that the they this to was were with",
    )
)
_NUMBER_WORDS: Mapping[int, set[str]] = {
    1: {"one", "once", "single"},
    2: {"two", "half", "halves", "twice", "double", "doubled", "doubles", "pair", "pairs", "both", "second"},
    3: {"three", "third", "thirds", "triple", "tripled", "triples", "thrice"},
    4: {"four", "fourth", "fourths", "quarter", "quarters", "quadruple", "month", "months"},
    5: {"five", "fifth", "fifths"},
    6: {"six", "sixth", "sixths"},
    7: {"seven", "seventh", "week", "weeks", "weekly", "daily"},
    8: {"eight", "eighth", "eighths"},
    9: {"nine", "ninth"},
    10: {"ten", "tenth", "tenths", "dime", "dimes"},
    12: {"twelve", "dozen", "dozens", "year", "years", "annual", "annually", "foot", "feet"},
    24: {"day", "days"},
    60: {"hour", "hours", "minute", "minutes"},
    100: {"percent", "dollar", "dollars", "cent", "cents", "hundred"},
}
_TAKEN = frozenset({"math", "sympy", "result", "solution", *keyword.kwlist, *keyword.softkwlist})


@dataclass(frozen=True)
class Step:
    """One calculation: Python text, the value that the solution says it has, and words for its name."""

    expression: str
    value: Fraction
    words: str = ""


def marked_steps(solution: str) -> list[Step]:
    """The calculations of a GSM8K solution. Raises ValueError for a mark that is no arithmetic."""
    return [_marked_step(mark[1], mark[2]) for mark in _MARK.finditer(solution)]


def equation_steps(equation: str) -> list[Step]:
    """The calculations of an SVAMP equation such as `( ( 8.0 + 6.0 ) - 3.0 )`, inner ones first. Raises ValueError for no arithmetic."""
    steps: list[Step] = []
    _inner_first(_parse(_plain(equation)), steps)
    return steps


def exact_value(expression: str) -> Fraction:
    """What plain arithmetic such as `48/2`, `15%*80` or `1,000 - 2^3` comes to. Raises ValueError for anything else."""
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise ValueError(f"{len(expression)} characters, at most {MAX_EXPRESSION_CHARS} are read")
    return _evaluate(_parse(_plain(expression)))


def program_of(question: str, steps: Sequence[Step], answer: Fraction, *, linked: bool = True) -> str | None:
    """The program whose last calculation with the answer as its value is the result; None where there is none.

    ``linked``: results are used by name; otherwise every calculation stands for itself.
    """
    last = max((at for at, step in enumerate(steps) if abs(step.value - answer) <= TOLERANCE), default=None)
    if last is None:
        return None
    given = given_numbers(question)
    names: dict[Fraction, str] = {}
    lines = [program_head(question)]
    for number, step in enumerate(steps[: last + 1], start=1):
        name = _name(step.words, number, names.values())
        if number == last + 1 and name == f"step_{number}":
            name = "result"
        lines.append(f"    {name} = {_linked(step.expression, names if linked else {})}\n")
        if step.value not in given:
            names[step.value] = name
    if name != "result":
        lines.append(f"    result = {name}\n")
    return f"{''.join(lines)}    return result"


def given_numbers(question: str) -> set[Fraction]:
    """Numbers that the question names, in digits or in words: they are not taken for results."""
    words = set(_WORD.findall(question.lower()))
    named = {Fraction(value) for value, names in _NUMBER_WORDS.items() if words & names}
    return {_value(text) for text in _NUMBER.findall(question)} | named


def _marked_step(mark: str, words: str) -> Step:
    left, equals, right = mark.rpartition("=")
    value = rational(right.replace("$", "").replace("%", "").strip())
    if not equals or value is None:
        raise ValueError(f"<<{mark}>> does not say what it comes to")
    return Step(ast.unparse(_parse(_plain(left.partition("=")[0]))), value, words)


def _plain(expression: str) -> str:
    """Signs as Python writes them; `15%` is (15/100)."""
    for sign, python in (
        ("×", "*"),
        ("x", "*"),
        ("X", "*"),
        ("÷", "/"),
        ("−", "-"),
        ("–", "-"),
        ("^", "**"),
        ("$", ""),
    ):
        expression = expression.replace(sign, python)
    expression = _PERCENT.sub(r"(\1/100)", expression)
    return _NUMBER.sub(lambda number: _digits(number[0]), expression).strip()


def _digits(number: str) -> str:
    """`1,000` -> 1000, `76.0` -> 76, `.50` -> 0.5, `007` -> 7."""
    value = _value(number)
    return str(value.numerator) if value.denominator == 1 else str(float(value))


def _value(number: str) -> Fraction:
    return Fraction(number.replace(",", "").rstrip(".") or "0")


def _parse(expression: str) -> ast.expr:
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression[:60]!r} is no arithmetic") from error
    for node in ast.walk(tree):
        number = isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
        if not number and not isinstance(node, (ast.BinOp, ast.UnaryOp, *_ARITHMETIC)):
            raise ValueError(f"{expression[:60]!r} is no arithmetic")
    return tree


def _evaluate(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _evaluate(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.BinOp):
        raise ValueError(f"{ast.unparse(node)[:60]!r} is no calculation")
    x, y = _evaluate(node.left), _evaluate(node.right)
    if isinstance(node.op, ast.Pow):
        if y.denominator != 1 or abs(y) > MAX_POWER or (not x and y < 0):
            raise ValueError(f"{ast.unparse(node)[:60]!r}: a power is read up to {MAX_POWER}")
        return x ** int(y)
    sign = _SIGNS.get(type(node.op))
    if sign is None or (sign == "/" and not y):
        raise ValueError(f"{ast.unparse(node)[:60]!r} is no calculation with + - * /, or divides by 0")
    return {"+": x + y, "-": x - y, "*": x * y}[sign] if sign != "/" else x / y


def _inner_first(node: ast.expr, steps: list[Step]) -> tuple[str, Fraction]:
    """What the node is called and its value; its calculations are appended to the steps."""
    if isinstance(node, ast.Constant):
        return ast.unparse(node), Fraction(str(node.value))
    if not isinstance(node, ast.BinOp) or type(node.op) not in _SIGNS:
        raise ValueError(f"{ast.unparse(node)[:60]!r} is no calculation with + - * /")
    (left, x), (right, y) = _inner_first(node.left, steps), _inner_first(node.right, steps)
    sign = _SIGNS[type(node.op)]
    if sign == "/" and not y:
        raise ValueError(f"{ast.unparse(node)[:60]!r} divides by 0")
    value = {"+": x + y, "-": x - y, "*": x * y}[sign] if sign != "/" else x / y
    steps.append(Step(f"{left} {sign} {right}", value))
    return f"step_{len(steps)}", value


def _linked(expression: str, known: Mapping[Fraction, str]) -> str:
    return _NUMBER.sub(lambda number: known.get(_value(number[0]), number[0]), expression)


def _name(words: str, number: int, taken: Iterable[str]) -> str:
    """At most three of the words up to the first sign, without small words around them; else the step's number."""
    phrase = re.split(r"[^A-Za-z \u2019']", words, maxsplit=1)[0]
    found = [word.lower() for word in _WORD.findall(phrase)][:MAX_NAME_WORDS]
    while found and found[-1] in _SMALL_WORDS:
        found.pop()
    while found and found[0] in _SMALL_WORDS:
        found.pop(0)
    name = "_".join(found)[:MAX_NAME_CHARS].rstrip("_")
    if not name or name in _TAKEN:
        return f"step_{number}"
    return f"{name}_{number}" if name in taken else name
