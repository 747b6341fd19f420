"""What a notebook holds against what its cells make anew: changes of every kind are seen, and nothing else."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from ajet.config.user_code.sameness import is_same

CELLS = """
import abc, collections, dataclasses, enum, functools, random, re, threading, typing
import numpy as np
import pandas as pd
from pydantic import BaseModel, field_validator

class Settings:
    def __init__(self):
        self.rate = 0.0
        self.parts = {"a": [1, 2]}

@dataclasses.dataclass
class Point:
    x: float = 1.0
    near: list = dataclasses.field(default_factory=list)

@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int = 3

class Colour(enum.Enum):
    RED = 1

class Reply(BaseModel):
    word: str = "sun"
    size: int = 3

    @field_validator("word")
    @classmethod
    def legal(cls, value):
        return value.lower()

class Pair(typing.NamedTuple):
    left: int
    right: int

class Base(abc.ABC):
    limit = 4

    @abc.abstractmethod
    def play(self): ...

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def made(cls):
        return cls

    @property
    def size(self):
        return 3

    @functools.cached_property
    def slow(self):
        return 5

class Game(Base):
    def play(self, colour=Colour.RED):
        return [self.twice(k) for k in range(3)], super().size

    def itself(self):
        return Game

def make(n):
    def again(k):
        return again(k - 1) if k else n
    return again

@functools.lru_cache
def cached(x):
    return x + 1

def logged(f):
    @functools.wraps(f)
    def inner(*a, **k):
        return f(*a, **k)
    return inner

@logged
def score(x, *, bonus=1.5):
    return x + bonus

settings, point, slotted = Settings(), Point(), Slotted()
closure, part, short = make(2), functools.partial(score, bonus=2), lambda x: x + 1
weights, nans, frame = np.zeros(3), np.array([np.nan, 1.0]), pd.DataFrame({"a": [1.0, np.nan]})
words, names = ["sun", "sun"], {"b", "a", "c"}
pattern, lock, generator = re.compile("a+"), threading.Lock(), random.Random(0)
counts = collections.defaultdict(Settings, {"a": settings})
loop = []
loop.append(loop)
reply, pair = Reply(), Pair(1, 2)
"""


def made(name: str, source: str = CELLS) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # where dataclasses and pydantic look classes up
    exec(compile(source, f"<{name}>", "exec"), vars(module))
    return module


@pytest.fixture(scope="module")
def kept() -> ModuleType:
    return made("of_the_run")


def changed(held: ModuleType, kept: ModuleType) -> list[str]:
    modules = frozenset({held.__name__, kept.__name__})
    return [
        name
        for name, made_anew in vars(kept).items()
        if not name.startswith("__") and not is_same(vars(held)[name], made_anew, modules=modules)
    ]


def test_what_has_not_changed_is_the_same_whatever_it_is(kept: ModuleType) -> None:
    held = made("of_the_notebook")
    assert changed(held, kept) == []
    held.Game().slow, held.cached(3), held.score(2)  # use changes nothing
    assert changed(held, kept) == []


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("settings.rate = 1.0", {"settings", "counts"}),
        ("settings.parts['a'].append(3)", {"settings", "counts"}),
        ("point.near.append(1)", {"point"}),
        ("words[0] = 'moon'", {"words"}),
        ("names.add('d')", {"names"}),
        ("weights[1] = 1.0", {"weights"}),
        ("frame.loc[0, 'a'] = 2.0", {"frame"}),
        ("reply.size = 4", {"reply"}),
        ("generator.random()", {"generator"}),
        ("Game.play = lambda self: 3", {"Game"}),
        ("Game.limit = 5", {"Game"}),
        ("Base.limit = 5", {"Base", "Game"}),
        ("Base.twice = staticmethod(lambda x: 3 * x)", {"Base", "Game"}),
        ("Base.size = property(lambda self: 4)", {"Base", "Game"}),
        ("Base.made = classmethod(lambda cls: None)", {"Base", "Game"}),
        ("score.__wrapped__.__kwdefaults__['bonus'] = 2.0", {"score", "part"}),
        ("score.tries = 2", {"score", "part"}),
        ("closure = make(3)", {"closure"}),
        ("part = functools.partial(score, bonus=3)", {"part"}),
        ("short = lambda x: x + 2", {"short"}),
        ("pattern = re.compile('b+')", {"pattern"}),
        ("def make(n):\n    return lambda k: n", {"make"}),
        ("class Slotted:\n    x = 3", {"Slotted"}),
        ("np = 3", {"np"}),
        ("pair = pair._replace(left=2)", {"pair"}),
    ],
)
def test_a_change_of_any_kind_is_seen(kept: ModuleType, change: str, seen: set[str]) -> None:
    assert set(changed(made("of_the_notebook", f"{CELLS}\n{change}"), kept)) == seen
