"""The words of the game, what its players are shown, what they may say, and who scripted players are. Pure.

A teacher sees a word and gives a hint that does not hold it; a student sees the hint alone and says which of eight
kinds of things the word is. Words are split by training and held-out tasks, so that a held-out score is about
words that were never trained on: the teacher has to know what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from typing_extensions import override

from ajet.chat.types import ChatReply, ChatRequest
from ajet.workflows.sensible import SensiblePlayer

KINDS = {
    "animal": "dog cat horse cow sheep pig rabbit mouse lion bear monkey snake frog duck eagle whale shark bee "
    "spider ant wolf fox goat tiger elephant camel parrot turtle salmon beetle",
    "food": "apple banana bread cheese rice soup cake egg honey carrot potato tomato onion salt sugar butter "
    "orange lemon corn pizza chicken yogurt cherry garlic pasta peach bacon cookie mushroom pepper",
    "furniture": "bed chair table lamp door window mirror clock carpet pillow blanket oven fridge towel spoon fork "
    "plate cup bowl shelf sofa desk drawer curtain kettle basket bucket candle broom stool",
    "nature": "moon sun star river mountain ocean forest desert island rain snow storm wind cloud fire rock sand "
    "flower grass leaf lake valley volcano beach ice thunder tree waterfall cave hill",
    "vehicle": "car train plane boat bicycle bus truck tractor rocket ship taxi helicopter motorcycle sled wagon "
    "canoe submarine ambulance scooter tram raft van balloon glider ferry jeep kayak limousine skateboard "
    "yacht",
    "tool": "hammer saw nail rope key drill screw axe shovel knife scissors pencil needle ladder wrench brush "
    "glue tape ruler pliers chisel rake pump magnet anchor hook chain clamp crowbar spade",
    "job": "doctor teacher farmer soldier king pilot nurse chef judge actor singer painter hunter sailor baker "
    "priest thief lawyer dancer poet plumber dentist butcher miner clerk waiter driver tailor barber "
    "banker",
    "clothing": "shirt shoe hat coat dress sock glove belt scarf jacket boot skirt tie sweater jeans sandal cap vest "
    "suit robe apron pajamas bikini helmet slipper hoodie blouse mitten cardigan uniform",
}
"""Thirty words of each kind."""
NUM_TRAINED = 20
"""Of each kind; the others are held out."""
MOST_HINT_CHARACTERS = 80

_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}

TEACHER = "You hint at a word without saying it."
STUDENT = f"You say what kind of thing a hint is about: {', '.join(KINDS)}."
_TEACHER_EXAMPLES = (
    ("zebra", "an animal with stripes"),
    ("noodle", "food in a bowl"),
    ("armchair", "furniture to sit in"),
    ("fog", "a part of nature, grey and wet"),
    ("trolley", "a vehicle on rails"),
    ("screwdriver", "a tool with a handle"),
    ("carpenter", "a job with wood"),
    ("pullover", "clothing made of wool"),
    ("lizard", "an animal that likes the sun"),
    ("sausage", "food from the grill"),
    ("cupboard", "furniture for plates"),
    ("ravine", "a part of nature, deep and narrow"),
    ("airplane", "a vehicle with wings"),
    ("chainsaw", "a tool that cuts trees"),
    ("violinist", "a job on a stage"),
    ("trousers", "clothing for the legs"),
)
"""Two of each kind; none of them is a word of the game."""
_STUDENT_EXAMPLES = (
    ("an animal with feathers", "animal"),
    ("sweet and baked in an oven", "food"),
    ("furniture in a bedroom", "furniture"),
    ("it falls from the sky", "nature"),
    ("a vehicle with two wheels", "vehicle"),
    ("it has a sharp blade", "tool"),
    ("a job in a hospital", "job"),
    ("people wear it on their feet", "clothing"),
    ("it has fur and a tail", "animal"),
    ("food for breakfast", "food"),
    ("people sleep on it", "furniture"),
    ("a part of nature, blue and deep", "nature"),
    ("it carries people over the sea", "vehicle"),
    ("a tool for the garden", "tool"),
    ("somebody who teaches", "job"),
    ("clothing for the winter", "clothing"),
)
"""Two of each kind, one that names it and one that does not."""


def train_words() -> Iterator[dict[str, object]]:
    """A task for each word that may be trained on, for `data=python`."""
    return _tasks(slice(NUM_TRAINED))


def held_out_words() -> Iterator[dict[str, object]]:
    """A task for each word that is never trained on."""
    return _tasks(slice(NUM_TRAINED, None))


def _tasks(part: slice) -> Iterator[dict[str, object]]:
    for kind, words in KINDS.items():
        for word in words.split()[part]:
            yield {"task_id": word, "word": word, "kind": kind}


def teacher_messages(word: str) -> list[dict[str, str]]:
    """What the teacher is asked, behind sixteen worked examples."""
    examples = [(_ask_for_hint(shown), hint) for shown, hint in _TEACHER_EXAMPLES]
    return _conversation(TEACHER, examples, _ask_for_hint(word))


def student_messages(hint: str) -> list[dict[str, str]]:
    """What the student is asked, behind sixteen worked examples."""
    examples = [(_ask_for_kind(given), kind) for given, kind in _STUDENT_EXAMPLES]
    return _conversation(STUDENT, examples, _ask_for_kind(hint))


def _ask_for_hint(word: str) -> str:
    return f"Word: {word}"


def _ask_for_kind(hint: str) -> str:
    return f"Hint: {hint}"


def _conversation(system: str, examples: list[tuple[str, str]], question: str) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}]
    for asked, answered in examples:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*messages, {"role": "user", "content": question}]


def is_legal_hint(hint: str, word: str) -> bool:
    """One line, not too long, without the word or a part of it that would give it away.

    Example: neither "doggy" nor "Dogs" is a hint for dog, but "hotel" is one for hot.
    """
    if not 0 < len(hint) <= MOST_HINT_CHARACTERS or "\n" in hint:
        return False
    stem = word.removesuffix("e") if len(word) > 4 else word
    return not any(said.startswith(stem) for said in re.findall(r"[a-z]+", hint.lower()))


def read_guess(reply: str) -> str | None:
    """The kind that the reply is, apart from case and a full stop; None if it is something else."""
    guess = reply.strip().rstrip(".").lower()
    return guess if guess in KINDS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedHinter(SensiblePlayer):
    """Hints at a word by its kind, and takes a hint for the kind that it names."""

    @override
    def replies(self, request: ChatRequest) -> tuple[list[ChatReply], list[ChatReply]]:
        """A senseless hint says nothing, a senseless guess is any kind."""
        asked = str(request.messages[-1]["content"])
        if asked.startswith("Word: "):
            kind = _KIND_OF.get(asked.removeprefix("Word: "), "thing")
            return [ChatReply(content=f"a kind of {kind}")], [ChatReply(content="something")]
        kinds = [ChatReply(content=kind) for kind in KINDS]
        return [kind for kind in kinds if kind.content in asked] or kinds, kinds
