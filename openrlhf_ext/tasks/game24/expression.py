"""Exact values of arithmetic text: integers, + - * / and parentheses, nothing else (no unary minus), never `eval`."""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 400
MAX_DEPTH = 40
MAX_DIGITS = 9
MAX_INTEGERS = 16

_TOKEN = re.compile(r" *([0-9]+|[-+*/()])", re.ASCII)


class ExpressionError(ValueError):
    """Text that is not an expression of the grammar, or has no value (division by zero)."""


@dataclass(frozen=True)
class Value:
    """The exact value and the integers used, in order of appearance."""

    value: Fraction
    integers: tuple[int, ...]


def evaluate(text: str) -> Value:
    """Parses and evaluates. Raises ExpressionError; the work is bounded for any text."""
    tokens = _tokens(text)
    integers = tuple(int(token) for token in tokens if token.isdigit())
    if len(integers) > MAX_INTEGERS:
        raise ExpressionError(f"{len(integers)} integers, at most {MAX_INTEGERS} are read")
    parser = _Parser(tokens)
    value = parser.sum(0)
    if parser.at != len(tokens):
        raise ExpressionError(f"unexpected {tokens[parser.at]!r}")
    return Value(value, integers)


def _tokens(text: str) -> list[str]:
    text = text.strip(" ")
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"{len(text)} characters, at most {MAX_CHARS} are read")
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"unexpected {text[at:].strip(' ')[:1]!r}")
        token = match.group(1)
        if token.isdigit() and (len(token) > MAX_DIGITS or (len(token) > 1 and token[0] == "0")):
            raise ExpressionError(f"{token[:12]}: integers have at most {MAX_DIGITS} digits and no leading zero")
        tokens.append(token)
        at = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            value = value + self.product(depth) if self.take() == "+" else value - self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.atom(depth)
        while self.peek() in ("*", "/"):
            if self.take() == "*":
                value *= self.atom(depth)
                continue
            divisor = self.atom(depth)
            if divisor == 0:
                raise ExpressionError("division by zero")
            value /= divisor
        return value

    def atom(self, depth: int) -> Fraction:
        token = self.take()
        if token.isdigit():
            return Fraction(int(token))
        if token != "(":
            raise ExpressionError(f"expected a number or '(', found {token!r}")
        if depth >= MAX_DEPTH:
            raise ExpressionError(f"more than {MAX_DEPTH} nested parentheses")
        value = self.sum(depth + 1)
        if self.take() != ")":
            raise ExpressionError("missing ')'")
        return value
