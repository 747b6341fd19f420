"""Arithmetic as text, read without running it: for the calculator of `math` and the verifier of `countdown`.

In: an expression of numbers, + - * / and parentheses. Out: its exact value and the numbers that stand in it, or one
sentence on what is wrong with it, in words that its writer can act on. Left out on purpose: signs, powers, names and
everything else that Python would understand; nothing is ever evaluated but a tree of the four operators.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

OPERATORS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
MAX_LENGTH = 200
"""Most characters of an expression."""
MAX_NUMBER = 10**12
"""Numbers, and numerators and denominators on the way, are at most so large."""
_NAMES: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_INCOMPLETE = "this is no complete expression"
_LEADING_ZERO = re.compile(r"(?<![\d.])0\d")
_ALPHABET = re.compile(r"[0-9.+\-*/() ]*")


class ExpressionError(ValueError):
    """What is wrong with an expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """An expression that was read.

    Example: `(3 + 5) * 2` has value 16 and numbers ("3", "5", "2").
    """

    value: Fraction
    numbers: tuple[str, ...]
    """The numbers as they are written, from left to right."""


def read_expression(text: str) -> Expression:
    """The expression's exact value and its numbers.

    Raises:
        ExpressionError: it is too long, is no arithmetic, divides by zero, or its numbers are too large.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters")
    if not _ALPHABET.fullmatch(text):
        raise ExpressionError("an expression holds numbers, + - * / and parentheses only")
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        leads = _LEADING_ZERO.search(text)
        raise ExpressionError("write numbers without leading zeros" if leads else _INCOMPLETE) from error
    numbers: list[str] = []
    return Expression(value=_value(tree, text, numbers), numbers=tuple(numbers))


def _value(node: ast.expr, text: str, numbers: list[str]) -> Fraction:
    """The node's value; the numbers in it are added to `numbers`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        # From the text, for a float would not be exact.
        written = str(ast.get_source_segment(text, node))
        numbers.append(written)
        return _bounded(Fraction(written))
    if not (isinstance(node, ast.BinOp) and type(node.op) in _NAMES):
        raise ExpressionError("write numbers between the operators + - * /, without signs or powers")
    left, right = _value(node.left, text, numbers), _value(node.right, text, numbers)
    name = _NAMES[type(node.op)]
    if name == "/" and right == 0:
        raise ExpressionError("it divides by zero")
    return _bounded(OPERATORS[name](left, right))


def _bounded(value: Fraction) -> Fraction:
    if max(abs(value.numerator), value.denominator) > MAX_NUMBER:
        raise ExpressionError(f"its numbers are larger than {MAX_NUMBER}")
    return value


def chain(numbers: Sequence[int], operators: Sequence[str]) -> str:
    """The numbers joined from left to right, with the parentheses that this order needs.

    Example: `chain((3, 5, 2), "+*")` is `(3 + 5) * 2`.
    """
    text, is_sum = str(numbers[0]), False
    for name, number in zip(operators, numbers[1:], strict=True):
        if is_sum and name in "*/":
            text = f"({text})"
        text = f"{text} {name} {number}"
        is_sum = name in "+-"
    return text
