"""Memory after packs of many lengths: `python experiments/onednn_linear/memory.py [--mkl]`.

In: `model=tiny`. Out: resident memory and processor time before and after 40 forward and backward passes of 1,200 to
2,048 tokens, with MKL's or oneDNN's linear layers. `ONEDNN_PRIMITIVE_CACHE_CAPACITY` and `LRU_CACHE_CAPACITY` in the
environment bound for how many shapes oneDNN and torch above it keep what they prepared; `ajet.config.cli.entry` sets
both.
"""

from __future__ import annotations

import argparse
import random
import time

import torch
from transformers import AutoModelForCausalLM

from ajet.config.model import resolve_model_path
from ajet.train.onednn import with_onednn_linear

NUM_PACKS = 40


def resident_mib() -> int:
    """Resident memory of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def main() -> None:
    """Print memory and time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mkl", action="store_true")
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(resolve_model_path("builtin:tiny"), attn_implementation="sdpa")
    if not parser.parse_args().mkl:
        model = with_onednn_linear(model)
    lengths = random.Random(0)
    for num_packs in range(NUM_PACKS + 1):
        tokens = torch.randint(0, model.config.vocab_size, (1, lengths.randint(1200, 2048)))
        model(input_ids=tokens, use_cache=False).logits.float().log_softmax(-1).sum().backward()
        model.zero_grad()
        if num_packs in (0, NUM_PACKS):
            print(f"{num_packs} packs: {resident_mib()} MiB, {time.process_time():.1f} s")


if __name__ == "__main__":
    main()
