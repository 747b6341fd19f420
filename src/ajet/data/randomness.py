"""Named randomness: every generator is derived from what it is for, never from global state.

`derive_seed(run_seed, "train", task_id, repeat, agent, call)` is the same number on every machine, and two
different names give independent streams. Nothing here touches `random`'s, numpy's or torch's global seeds.
"""

from __future__ import annotations

import hashlib
import random


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed that depends on every part and on their order (BLAKE2b of an unambiguous encoding)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def derive_rng(*parts: str | int) -> random.Random:
    """A generator of its own, seeded by `derive_seed`."""
    return random.Random(derive_seed(*parts))
