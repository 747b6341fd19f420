"""How much work an answer is, before any of it is done: a model may write `9^{9^{9}}`, and it must stall no episode.

In: an answer as LaTeX, or as the tree that math-verify read, which is not worked out yet. Out: whether it is small
enough to compare. No clock is asked, so the verdict is the same on every machine. The library's own limits are signals,
which wait until a large power is done.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sympy import Basic

MOST_CHARACTERS = 200
MOST_LEVELS = 6
"""Of brackets within brackets, the box's own included: the time to read them multiplies with each."""
MOST_BITS = 10_000
"""About 3000 digits."""
MOST_TERMS = 100
"""Of a sum that is multiplied out."""
_SYMBOL_BITS = 100
"""So that `x^{100}` is the highest power of an unknown."""
_NEVER = re.compile(r"operatorname|\\det|[gG]amma")
_WORKED_OUT = re.compile(r"binom|choose|floor|ceil|gcd|lcm")
"""What is worked out while it is read; it stays small where its numbers are."""
_LARGE = re.compile(r"\d{4}|[\^!]")
Size = tuple[float, float]
"""Bits of the longest number and terms of the longest sum, at most; infinite where that has no limit."""
_NO_LIMIT: Size = (math.inf, math.inf)


def is_short(latex: str) -> bool:
    """Whether reading the answer takes a moment only."""
    if len(latex) > MOST_CHARACTERS or _levels(latex) > MOST_LEVELS or _NEVER.search(latex):
        return False
    return not (_WORKED_OUT.search(latex) and _LARGE.search(latex))


def is_small(tree: Basic) -> bool:
    """Whether working the answer out takes a moment only.

    Example: 2^{100} has 300 bits at most; (x+1)^{3000} has 3001 terms and is not small.
    """
    bits, terms = _size(tree)
    return bits <= MOST_BITS and terms <= MOST_TERMS


def _levels(latex: str) -> int:
    level = deepest = 0
    for character in latex:
        level += (character in "([{") - (character in ")]}")
        deepest = max(deepest, level)
    return deepest


def _size(node: Any, unknown_bits: int = _SYMBOL_BITS) -> Size:
    import sympy
    from sympy.concrete.expr_with_limits import ExprWithLimits
    from sympy.functions.elementary.hyperbolic import HyperbolicFunction

    parts = node.flat() if isinstance(node, sympy.MatrixBase) else node.args
    if isinstance(node, sympy.Rational):
        return node.p.bit_length() + node.q.bit_length(), 1
    if not parts:
        return (unknown_bits if isinstance(node, sympy.Symbol) else 64), 1
    if isinstance(node, sympy.Pow | sympy.exp):
        base, exponent = node.as_base_exp()
        return _power(base, exponent, unknown_bits)
    if isinstance(node, ExprWithLimits | sympy.Limit | sympy.Derivative):
        return _NO_LIMIT
    sizes = [_size(part, unknown_bits) for part in parts]
    bits, terms = sum(size[0] for size in sizes), math.prod(size[1] for size in sizes)
    if isinstance(node, sympy.Mul | sympy.MatMul):
        return bits, terms
    if isinstance(node, sympy.factorial | sympy.binomial | HyperbolicFunction):
        return _value(_size(parts[0], 1)[0]) * bits, 1
    are_numbers = all(isinstance(part, sympy.Number) for part in parts)
    return max(size[0] for size in sizes) + len(sizes), 1 if are_numbers else sum(size[1] for size in sizes)


def _power(base: Any, exponent: Any, unknown_bits: int) -> Size:
    import sympy

    bits, terms = _size(base, unknown_bits)
    is_number = isinstance(exponent, sympy.Rational)
    # An unknown in an exponent multiplies nothing out; what may is the numbers beside it.
    times = math.ceil(abs(float(exponent))) if is_number else _value(_size(exponent, 1)[0])
    if terms == 1:
        return bits * times, 1
    if max(times, terms) > MOST_TERMS:
        return _NO_LIMIT
    return bits * times, math.comb(int(times + terms - 1), int(terms - 1))


def _value(bits: float) -> float:
    """The largest number of so many bits."""
    return 2.0**bits if bits < MOST_BITS.bit_length() else math.inf
