"""The words of the game, what its players are shown, what they may say, and who scripted players are. Pure.

A teacher sees a word and gives a hint that does not hold it; a student sees the hint and four words, and names one. The
four are of different categories, so a hint helps as soon as it says roughly what the word is about. Words are split by
training and held-out tasks, so that a held-out score is about words that were never trained on, neither as the answer
nor among the choices.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from typing_extensions import override

from ajet.chat.types import ChatReply, ChatRequest
from ajet.workflows.sensible import SensiblePlayer

CATEGORIES = {
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
"""Thirty words each, of one part."""
NUM_TRAINED = 20
"""Of each category; the others are held out."""
NUM_CHOICES = 4
WRONG_GUESS_REWARD = -1 / (NUM_CHOICES - 1)
"""So that guessing blindly among the choices earns 0 on average, as no answer does (formula scoring, as tests with
several choices correct for guessing). Were it 0, to name any choice would be better than none, and a model that hardly
ever names one learns to name the last, whatever the hint."""
MOST_HINT_CHARACTERS = 80

_CATEGORY_OF = {word: category for category, words in CATEGORIES.items() for word in words.split()}

TEACHER = "You give hints in a word game."
STUDENT = "You guess words in a word game."
_TEACHER_EXAMPLES = (
    ("piano", "music, keys, concert"),
    ("school", "pupils, lessons, books"),
    ("glasses", "eyes, read, lens"),
    ("hospital", "sick, nurses, beds"),
)
_STUDENT_EXAMPLES = (
    ("music, keys, concert", ("hospital", "piano", "cotton", "gold"), "piano"),
    ("pupils, lessons, books", ("trumpet", "silver", "blood", "school"), "school"),
    ("eyes, read, lens", ("glasses", "wool", "bridge", "planet"), "glasses"),
    ("paint, brush, museum", ("cotton", "engine", "coin", "art"), "art"),
    ("sick, nurses, beds", ("hospital", "trumpet", "silver", "art"), "hospital"),
    ("soft, cloth, plant", ("engine", "planet", "cotton", "blood"), "cotton"),
    ("river, cross, road", ("gold", "bridge", "coin", "wool"), "bridge"),
    ("money, metal, round", ("school", "glasses", "coin", "art"), "coin"),
)


def train_words() -> Iterator[dict[str, object]]:
    """A task for each word that may be trained on, for `data=python`."""
    return _tasks(slice(NUM_TRAINED))


def held_out_words() -> Iterator[dict[str, object]]:
    """A task for each word that is never trained on."""
    return _tasks(slice(NUM_TRAINED, None))


def _tasks(part: slice) -> Iterator[dict[str, object]]:
    words = {category: listed.split()[part] for category, listed in CATEGORIES.items()}
    for category, listed in words.items():
        for word in listed:
            rng = random.Random(word)
            others = rng.sample([other for other in words if other != category], NUM_CHOICES - 1)
            choices = [word, *(rng.choice(words[other]) for other in others)]
            rng.shuffle(choices)
            yield {"task_id": word, "word": word, "choices": choices}


def choices_in_order(choices: Sequence[str], repeat: int) -> list[str]:
    """The choices as one episode of a task lists them: the first one moves a place from episode to episode.

    Within a group the word is so in each place as often as in any other. Were it always in the same, naming the place
    would be rewarded for one task and punished for the next, and a student ends up naming one place for all.
    """
    start = repeat % len(choices)
    return [*choices[start:], *choices[:start]]


def teacher_messages(word: str) -> list[dict[str, str]]:
    """What the teacher is asked, behind four worked examples."""
    return _conversation(
        TEACHER, [(_ask_for_hint(shown), hint) for shown, hint in _TEACHER_EXAMPLES], _ask_for_hint(word)
    )


def student_messages(hint: str, choices: list[str]) -> list[dict[str, str]]:
    """What the student is asked, behind eight worked examples, whose answers stand twice in each place.

    The hint comes last: with the choices behind it, SmolLM2-135M names one of them whatever the hint was.
    """
    examples = [(_ask_for_word(given, list(words)), word) for given, words, word in _STUDENT_EXAMPLES]
    return _conversation(STUDENT, examples, _ask_for_word(hint, choices))


def _ask_for_hint(word: str) -> str:
    return f"Word: {word}. Give three other words that make one think of it."


def _ask_for_word(hint: str, choices: list[str]) -> str:
    return f"Words: {', '.join(choices)}. Which of them goes with: {hint}?"


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


def read_guess(reply: str, choices: list[str]) -> str | None:
    """The choice that the reply is, apart from case and a full stop; None if it is something else."""
    guess = reply.strip().rstrip(".").lower()
    return guess if guess in choices else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedHinter(SensiblePlayer):
    """Hints at a word by its category, and guesses by the categories that a hint names."""

    @override
    def replies(self, request: ChatRequest) -> tuple[list[ChatReply], list[ChatReply]]:
        """A senseless hint says nothing, a senseless guess is any choice."""
        asked = str(request.messages[-1]["content"])
        if asked.startswith("Word: "):
            category = _CATEGORY_OF.get(asked.removeprefix("Word: ").partition(".")[0], "thing")
            return [ChatReply(content=f"a kind of {category}")], [ChatReply(content="something")]
        listed, _, hint = asked.removeprefix("Words: ").partition(". Which of them goes with: ")
        choices = [ChatReply(content=choice) for choice in listed.split(", ")]
        fitting = [choice for choice in choices if _CATEGORY_OF.get(choice.content, " ") in hint.lower()]
        return fitting or choices, choices
