"""The multi-character pieces of the traces that a word-level tokenizer should keep whole.

A step line `(13) - (7) = 6, left: 6, 5, 9` becomes `(`13`) - (`7`) = `6`, left: `6`, `5`, `9`: nine pieces around integers
that are tokens themselves. No piece joins a newline to anything, so prompt and answer meet at a token border.
"""

_OPERATORS = tuple(f" {operator} " for operator in "+-*/")

PIECES: tuple[str, ...] = (
    "reach 24! expression: ",
    "reach ",
    "! expression: ",
    "roll back, left: ",
    ", left: ",
    ") = ",
    ") = -",
    " = ",
    " = -",
    ", ",
    ", -",
    "(-",
    "((",
    "(((",
    "))",
    *(left + operator + right for operator in _OPERATORS for left in ("", ")") for right in ("", "(", "(-")),
)
