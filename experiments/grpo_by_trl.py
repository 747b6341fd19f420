"""The loss of TRL's `GRPOTrainer` on rows of ajet's, forward and backward: what `experiments.speed` and
`experiments.gpu` compare with. Made for TRL 1.16, which is no requirement of ajet's.

TRL is given what suits it: rows sorted by length, in microbatches, each as wide as its longest prompt and reply.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ajet.records import TrainingSample


def loss_and_backward(
    model: Any,
    rows: Sequence[TrainingSample],
    *,
    tokenizer: Any,
    device: torch.device,
    rows_a_microbatch: int,
    bf16: bool = False,
    temperature: float = 1.0,
) -> Callable[[], None]:
    """Adds the gradients of all rows to the model's parameters.

    Args:
        model: on the device, as transformers has it.
        rows: token ids with advantages; a prompt each, then what was sampled and, masked, what came in between.
        tokenizer: whose padding TRL asks for; it reads no text.
        device: of the model.
        rows_a_microbatch: that go through the model together.
        bf16: whether TRL's own autocast is on.
        temperature: that logits are divided by.
    """
    trainer = _trainer(model, tokenizer, on_cpu=device.type == "cpu", bf16=bf16, temperature=temperature)
    num_sampled = sum(sum(row.loss_mask) for row in rows)
    ordered = sorted(rows, key=lambda row: len(row.token_ids))
    starts = range(0, len(ordered), rows_a_microbatch)
    given = [_padded(ordered[i : i + rows_a_microbatch], num_sampled=num_sampled, device=device) for i in starts]

    def run() -> None:
        for inputs in given:
            with trainer.accelerator.autocast(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = trainer._compute_loss(trainer.model, inputs)
            loss.backward()

    return run


def _trainer(model: Any, tokenizer: Any, *, on_cpu: bool, bf16: bool, temperature: float) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder,
            use_cpu=on_cpu,
            bf16=bf16,
            loss_type="dapo",
            temperature=temperature,
            beta=0.0,
            num_generations=2,
            per_device_train_batch_size=2,
            gradient_checkpointing=False,
            report_to=[],
        )
        trainer: Any = GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
            processing_class=tokenizer,
        )
    trainer.model.eval()  # no dropout on either side; TRL then divides by what it is given, and by no accumulation
    return trainer


def _padded(rows: Sequence[TrainingSample], *, num_sampled: int, device: torch.device) -> dict[str, torch.Tensor]:
    """What `GRPOTrainer` makes of generated replies: prompts padded on the left and replies on the right; what the
    agent did not say within a reply is masked."""
    cuts = [row.loss_mask.index(True) for row in rows]
    longest_prompt = max(cuts)
    longest = max(len(row.token_ids) - cut for row, cut in zip(rows, cuts, strict=True))
    prompt_ids = torch.zeros(len(rows), longest_prompt, dtype=torch.long)
    completion_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    prompt_mask, completion_mask = torch.zeros_like(prompt_ids), torch.zeros_like(completion_ids)
    tool_mask, advantages = torch.zeros_like(completion_ids), torch.zeros(completion_ids.shape)
    for i, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        num = len(row.token_ids) - cut
        prompt_ids[i, longest_prompt - cut :] = torch.tensor(row.token_ids[:cut])
        prompt_mask[i, longest_prompt - cut :] = 1
        completion_ids[i, :num] = torch.tensor(row.token_ids[cut:])
        completion_mask[i, :num] = 1
        tool_mask[i, :num] = torch.tensor(row.loss_mask[cut:], dtype=torch.long)
        advantages[i, :num] = torch.tensor(row.advantages[cut:])
    padded = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "tool_mask": tool_mask,
        "advantages": advantages,
        "num_items_in_batch": torch.tensor(float(num_sampled)),
    }
    return {name: tensor.to(device) for name, tensor in padded.items()}
