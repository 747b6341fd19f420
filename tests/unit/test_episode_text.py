"""Messages as text: whatever shape a program sends, a reader sees what was said and which tools were called."""

from __future__ import annotations

from typing import Any

import pytest

from ajet.tracking.text import last_message_text, message_text, reply_line, rewards_text

CALL = {"function": {"name": "vote", "arguments": '{"to": "Änne"}'}}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Hi."}, "Hi."),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": 42}, "42"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "image", "url": "x"}]}, '{"type": "image", "url": "x"}'),
        ({"content": ["plain"]}, "plain"),
        ({"content": "", "tool_calls": [CALL]}, '{"name": "vote", "arguments": "{\\"to\\": \\"Änne\\"}"}'),
        ({"content": "I vote.", "tool_calls": [{"name": "vote"}]}, 'I vote.\n{"name": "vote"}'),
    ],
)
def test_a_message_is_its_text_and_its_calls(message: dict[str, Any], text: str) -> None:
    assert message_text(message) == text


def test_the_end_of_a_request_is_shown() -> None:
    assert last_message_text([], most=3) == ""
    assert last_message_text([{"content": "first"}, {"content": "abcde"}], most=5) == "abcde"
    assert last_message_text([{"content": "abcde"}], most=3) == "…cde"


def test_rewards_and_replies_are_a_line() -> None:
    assert rewards_text({"P1": 1.0, "P2": 0.25}) == "P1 1 P2 0.25" and rewards_text({}) == ""
    assert reply_line("P1", "seer", "I saw a wolf.") == "P1 (seer): I saw a wolf."
