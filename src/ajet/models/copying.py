"""Short documents that teach a small transformer to copy: notes in, the same notes and one of their names out.

In: a tokenizer. Out: rows in the chat format, from notes alone to notes behind many lines of noise. A model that only
ever saw whole games learned to guess names instead of looking them up.
"""

from __future__ import annotations

import random
from typing import Any

from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatRequest
from ajet.randomness import derive_rng
from ajet.records import TrainingSample

NUM_PLAYERS = 9
LABELS = ("Seen werewolf", "Seen good", "Called werewolf", "Claimed seer", "Attacked", "Proposed")
NOISE = ("I pass.", "I suspect {}.", "{} is out.", "Nobody died.", "I am the seer. {} is good.")


def copying_rows(tokenizer: Any, *, num_rows: int, seed: int) -> list[TrainingSample]:
    """Rows whose reply repeats a note and then names somebody from it in a tool call."""
    renderer = ChatRenderer(tokenizer)
    rng = derive_rng("copying", seed)
    return [_row(tokenizer, renderer, rng, num_noise=rng.randint(0, 8 * (i + 1) // num_rows)) for i in range(num_rows)]


def _row(tokenizer: Any, renderer: ChatRenderer, rng: random.Random, *, num_noise: int) -> TrainingSample:
    names = [f"Player{i + 1}" for i in range(NUM_PLAYERS)]
    noted = rng.sample(names, rng.randint(1, 3))
    note = f"{rng.choice(LABELS)}: {' '.join(noted)}."
    lines = [f"{rng.choice(names)}: {rng.choice(NOISE).format(rng.choice(names))}" for _ in range(num_noise)]
    lines.append(f"Moderator: Day {rng.randint(1, 5)}. Vote. {note}")
    choices = sorted({*noted, *rng.sample(names, rng.randint(1, 6))})
    tool = {
        "type": "function",
        "function": {
            "name": "generate_response",
            "parameters": {"properties": {"target": {"type": "string", "enum": [*choices, "nobody"]}}},
        },
    }
    request = ChatRequest(
        messages=[
            {
                "role": "system",
                "content": f"You are {rng.choice(names)}, the {rng.choice(('seer', 'witch', 'villager'))}.",
            },
            {"role": "user", "content": "<history>\n" + "\n".join(lines) + "\n</history>"},
        ],
        tools=[tool],
    )
    prompt = renderer.prompt_ids(request, Conversation())
    call = f'<tool_call>{{"name": "generate_response", "arguments": {{"target": "{noted[0]}"}}}}</tool_call>'
    reply = (*tokenizer.encode(note + call, add_special_tokens=False), *renderer.stop_ids)
    return TrainingSample(
        episode_key=("copying", 0),
        agent_name="",
        target_tag="copying",
        token_ids=prompt + reply,
        loss_mask=(False,) * len(prompt) + (True,) * len(reply),
        logprobs=(0.0,) * (len(prompt) + len(reply)),
        advantage=1.0,
    )
