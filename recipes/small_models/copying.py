"""Short documents that teach a small transformer to copy: notes in, the same notes and one of their names out.

In: a tokenizer. Out: rows in the chat format, from notes alone to notes behind many lines of noise. A model that only
ever saw whole games learned to guess names instead of looking them up.
"""

from __future__ import annotations

import random
from typing import Any

from recipes.small_models.transcripts import Transcript

from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatRequest
from ajet.data.randomness import derive_rng
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.game import ROLES

NUM_PLAYERS = 9
LABELS = (
    prompts.SEEN_WEREWOLF,
    prompts.SEEN_GOOD,
    prompts.CALLED_WEREWOLF,
    prompts.CLAIMED_SEER,
    prompts.ATTACKED,
    prompts.PROPOSED,
)
NOISE = ("I pass.", "I suspect {}.", "I am the seer. {} is good.", "I am the seer. {} is werewolf.")
NEWS = ("{} is voted out, villager.", "Day 2. {} died, seer.", "Nobody is voted out.", "{} is good.", "{} is werewolf.")
MAX_NOISE = 10


def copying_rows(tokenizer: Any, *, num_rows: int, seed: int) -> list[Transcript]:
    """Rows whose reply repeats a note and then names somebody from it in a tool call."""
    renderer = ChatRenderer(tokenizer)
    rng = derive_rng("copying", seed)
    noise = [rng.randint(0, MAX_NOISE * (i + 1) // num_rows) for i in range(num_rows)]
    return [_row(tokenizer, renderer, rng, num_noise=n) for n in noise]


def _row(tokenizer: Any, renderer: ChatRenderer, rng: random.Random, *, num_noise: int) -> Transcript:
    me, *seats = rng.sample(range(NUM_PLAYERS), NUM_PLAYERS)
    noted = sorted(rng.sample(seats, rng.randint(0, 3)))
    first, second = rng.sample(LABELS, 2)
    # The second note is a decoy, except where the first one names nobody.
    decoy = sorted(rng.sample([seat for seat in seats if seat not in noted], rng.randint(0, 2)))
    notes = [prompts.note(first, noted), prompts.note(second, decoy)]
    decision: prompts.Decision = rng.choice(("vote", "say", "check", "attack"))
    lines = [_noise(rng, seats) for _ in range(num_noise)]
    lines.append(f"{prompts.MODERATOR}: {prompts.request(decision, rng.randint(1, 5), notes)}")
    named = noted or decoy
    target = prompts.player_name(named[0]) if named else prompts.NOBODY
    fields = {"say": rng.choice(prompts.STATEMENTS)} if decision == "say" else {}
    recited = notes[0] if noted or not decoy else " ".join(notes)
    arguments = "".join(f'"{name}": "{value}", ' for name, value in fields.items()) + f'"target": "{target}"'
    reply = f'{recited}<tool_call>{{"name": "generate_response", "arguments": {{{arguments}}}}}</tool_call>'
    request = ChatRequest(
        messages=[
            {"role": "system", "content": f"You are {prompts.player_name(me)}, the {rng.choice(ROLES)}."},
            {"role": "user", "content": "<history>\n" + "\n".join(lines) + "\n</history>"},
        ],
        tools=[_tool(rng, seats, named, with_say=decision == "say")],
    )
    prompt = renderer.prompt_ids(request, Conversation())
    ids = (*tokenizer.encode(reply, add_special_tokens=False), renderer.turn_end_id)
    odds = (*(None for _ in prompt), *(((token, 1.0),) for token in ids))
    return Transcript(token_ids=prompt + ids, odds=odds, target_tag="copying")


def _noise(rng: random.Random, seats: list[int]) -> str:
    name = prompts.player_name(rng.choice(seats))
    if rng.random() < 0.3:
        return f"{prompts.MODERATOR}: {rng.choice(NEWS).format(name)}"
    return f"{prompts.player_name(rng.choice(seats))}: {rng.choice(NOISE).format(name)}"


def _tool(rng: random.Random, seats: list[int], named: list[int], *, with_say: bool) -> dict[str, Any]:
    legal = sorted({*named, *rng.sample(seats, rng.randint(1, len(seats)))})
    targets = {"type": "string", "enum": [*map(prompts.player_name, legal), prompts.NOBODY]}
    say = {"say": {"type": "string", "enum": list(prompts.STATEMENTS)}} if with_say else {}
    return {
        "type": "function",
        "function": {"name": "generate_response", "parameters": {"properties": {**say, "target": targets}}},
    }
