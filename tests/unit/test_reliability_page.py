"""docs/reliability.md names a test for every promise: each of them exists, and stands once."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
PROMISE = re.compile(r"\| (?P<promise>[^|]+) \| `(?P<file>[\w/]+\.py)::(?P<test>test_\w+)` \|")
HEADING = ("| promise | shown by |", "|---|---|")


def test_every_promise_is_shown_by_a_test_that_exists() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and line not in HEADING]
    promises = [PROMISE.fullmatch(row) for row in rows]
    assert rows and [row for row, promise in zip(rows, promises, strict=True) if promise is None] == []
    for promise in promises:
        assert promise is not None
        assert re.search(rf"^(async )?def {promise['test']}\(", (TESTS / promise["file"]).read_text(), re.MULTILINE)


def test_no_promise_is_made_twice() -> None:
    promises = re.findall(r"^\| ([^|]+) \| `", PAGE.read_text(), re.MULTILINE)
    assert sorted(promises) == sorted(set(promises))
