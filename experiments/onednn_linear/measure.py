"""What oneDNN's linear layers gain: `OMP_NUM_THREADS=1 python experiments/onednn_linear/measure.py [model]`.

In: a checkpoint, by default the small model's. Out: seconds of each product of its layers by MKL and by oneDNN; of a
forward and backward with plain and with exchanged layers; and how far the gradients differ. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from ajet.config.model import resolve_model_path
from ajet.train.onednn import OneDnnLinear, with_onednn_linear

NUM_TOKENS, REPEATS = 900, 20


def seconds(*works: Callable[[], object]) -> list[float]:
    """Median time of each, taken in turns after one run to warm up."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS + 1):
        for work, times in zip(works, taken, strict=True):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    return [median(times[1:]) for times in taken]


def gradients(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Of the loss on a text, by parameter."""
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def main() -> None:
    """Print the tables of the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="builtin:tiny")
    path = resolve_model_path(parser.parse_args().model)
    torch.set_num_threads(1)
    plain, exchanged = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for _ in range(2))
    with_onednn_linear(exchanged)
    shapes = sorted({tuple(layer.weight.shape) for layer in exchanged.modules() if isinstance(layer, OneDnnLinear)})
    print("| layer, out x in | MKL, ms | oneDNN, ms | ratio |\n|---|---|---|---|")
    for num_out, num_in in shapes:
        layer, x = nn.Linear(num_in, num_out, bias=False), torch.randn(NUM_TOKENS, num_in)
        with torch.no_grad():
            mkl, onednn = seconds(partial(layer, x), partial(OneDnnLinear(layer), x))
        print(f"| {num_out} x {num_in} | {mkl * 1e3:.3f} | {onednn * 1e3:.3f} | {mkl / onednn:.2f} |")
    ids = torch.randint(len(plain.get_input_embeddings().weight), (1, NUM_TOKENS))
    before, after = seconds(partial(gradients, plain, ids), partial(gradients, exchanged, ids))
    print(f"forward and backward of {NUM_TOKENS} tokens: {before:.3f} s plain, {after:.3f} s exchanged")
    both = zip(gradients(plain, ids), gradients(exchanged, ids), strict=True)
    differences = [float((a - b).norm() / a.norm()) for a, b in both]
    print(f"largest relative difference of a parameter's gradient: {max(differences):.1e}")


if __name__ == "__main__":
    main()
