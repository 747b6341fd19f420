"""What the tests ask of errors is in them whole and in order."""

from __future__ import annotations

import pytest
from tests.sentences import names

SAID = "error: seed must be at least 0, not -1"


@pytest.mark.parametrize("wanted", ["seed", "seed ... 0 ... -1", "error: seed ... -1"])
def test_names_are_found_whatever_the_words_between(wanted: str) -> None:
    assert names(SAID, wanted)


@pytest.mark.parametrize("wanted", ["see", "seed ... -10", "-1 ... seed", "seed ... 2"])
def test_other_names_parts_of_them_and_another_order_are_not(wanted: str) -> None:
    assert not names(SAID, wanted)
    assert not names("seed\n-1", "seed ... -1")  # a line each is no sentence
