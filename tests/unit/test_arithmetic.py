"""Expressions as text: exact values, and nothing but arithmetic."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.workflows.arithmetic import MAX_LENGTH, MAX_NUMBER, OPERATORS, ExpressionError, chain, read_expression

Written = tuple[str, Fraction, list[str]]
"""A text with its value and its numbers."""


def leaves() -> st.SearchStrategy[Written]:
    def decimal(parts: tuple[int, int]) -> Written:
        text = f"{parts[0]}.{parts[1]}"
        return text, Fraction(text), [text]

    whole = st.integers(0, 30).map(lambda number: (str(number), Fraction(number), [str(number)]))
    return whole | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(decimal)


@st.composite
def joined(draw: st.DrawFn, children: st.SearchStrategy[Written]) -> Written:
    left, right, name = draw(children), draw(children), draw(st.sampled_from(sorted(OPERATORS)))
    if name == "/" and right[1] == 0:
        name = "+"
    space = draw(st.sampled_from(["", " "]))
    text = f"({left[0]}){space}{name}{space}({right[0]})"
    return text, OPERATORS[name](left[1], right[1]), [*left[2], *right[2]]


@given(st.recursive(leaves(), joined, max_leaves=8))
def test_an_expression_has_the_value_and_the_numbers_that_fractions_give(written: Written) -> None:
    text, value, numbers = written
    expression = read_expression(text)
    assert (expression.value, list(expression.numbers)) == (value, numbers)


@given(st.text(max_size=40) | st.text(alphabet="0123456789.+-*/() ", max_size=40))
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    try:
        value = read_expression(text).value
    except ExpressionError as error:
        assert str(error)
    else:
        assert max(abs(value.numerator), value.denominator) <= MAX_NUMBER


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("36 + 48", Fraction(84)),
        ("2 + 3 * 4", Fraction(14)),
        ("(2 + 3) * 4", Fraction(20)),
        ("9 / 2", Fraction(9, 2)),
        ("8 - 3 - 2", Fraction(3)),
        (" 0.1 + 0.2 ", Fraction(3, 10)),
        ("1 / 3 * 3", Fraction(1)),
    ],
)
def test_values_by_hand(text: str, value: Fraction) -> None:
    assert read_expression(text).value == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no complete expression"),
        ("3 +", "no complete expression"),
        ("(3", "no complete expression"),
        ("007", "without leading zeros"),
        ("1.007 +", "no complete expression"),
        ("3 4", "no complete expression"),
        ("-3 + 5", "without signs or powers"),
        ("3 + +5", "without signs or powers"),
        ("2 ** 3", "without signs or powers"),
        ("7 // 2", "without signs or powers"),
        ("3(5)", "without signs or powers"),
        ("()", "without signs or powers"),
        ("...", "without signs or powers"),
        ("__import__('os')", "only"),
        ("3 + x", "only"),
        ("1e9", "only"),
        ("1_000", "only"),
        ("1,000", "only"),
        ("3\n+ 5", "only"),
        ("\u0663 + \u0665", "only"),
        ("5 / (3 - 3)", "divides by zero"),
        ("9999999999999", "larger than"),
        ("999999999 * 999999999", "larger than"),
        ("1 / 999999999 / 999999999", "larger than"),
        ("1 + " * MAX_LENGTH + "1", "at most 200 characters"),
    ],
)
def test_what_is_no_arithmetic_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(reason)):
        read_expression(text)


@pytest.mark.parametrize(
    ("numbers", "operators", "text"),
    [
        ((3,), "", "3"),
        ((3, 5, 2), "+*", "(3 + 5) * 2"),
        ((3, 5, 2), "*+", "3 * 5 + 2"),
        ((3, 5, 2), "--", "3 - 5 - 2"),
        ((3, 5, 2, 4), "+*/", "(3 + 5) * 2 / 4"),
        ((3, 5, 2, 4), "*-*", "(3 * 5 - 2) * 4"),
    ],
)
def test_a_chain_has_the_parentheses_that_it_needs(numbers: tuple[int, ...], operators: str, text: str) -> None:
    assert chain(numbers, operators) == text


@given(st.lists(st.integers(1, 20), min_size=2, max_size=5), st.data())
def test_a_chain_is_worked_out_from_left_to_right(numbers: list[int], data: st.DataObject) -> None:
    operators = [data.draw(st.sampled_from(sorted(OPERATORS))) for _ in numbers[1:]]
    value = Fraction(numbers[0])
    for name, number in zip(operators, numbers[1:], strict=True):
        value = OPERATORS[name](value, Fraction(number))
    assert read_expression(chain(numbers, operators)).value == value
