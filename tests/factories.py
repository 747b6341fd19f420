"""Small records for tests: calls, episodes and groups with numbers one can check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from ajet.records import Call, Episode, EpisodeGroup, EpisodeStatus, FinishReason, Task, TrainingSample

TASK = Task(task_id="t")


def make_call(
    prompt: Sequence[int],
    sampled: Sequence[int],
    *,
    agent: str = "P1",
    tag: str = "seer",
    index: int = 0,
    logprob: float = -1.0,
    trained: bool = True,
    format_error: str | None = None,
    finish_reason: FinishReason = "stop",
) -> Call:
    return Call(
        index=index,
        agent_name=agent,
        target_tag=tag,
        trained=trained,
        messages=(),
        reply="",
        prompt_ids=tuple(prompt),
        sampled_ids=tuple(sampled),
        logprobs=(logprob,) * len(sampled),
        format_error=format_error,
        finish_reason=finish_reason,
    )


def make_episode(
    repeat: int,
    rewards: dict[str, float],
    *calls: Call,
    tags: dict[str, str] | None = None,
    status: EpisodeStatus = "ok",
    task: Task = TASK,
) -> Episode:
    return Episode(
        task=task,
        repeat=repeat,
        status=status,
        rewards=rewards,
        agent_tags=tags or dict.fromkeys(rewards, "seer"),
        calls=calls,
    )


def make_group(*rewards: float) -> EpisodeGroup:
    """One agent P1 with tag seer, one episode a reward."""
    return EpisodeGroup(task=TASK, episodes=tuple(make_episode(i, {"P1": r}) for i, r in enumerate(rewards)))


def make_sample(
    ids: Sequence[int],
    mask: Sequence[int],
    *,
    repeat: int = 0,
    agent: str = "P1",
    tag: str = "seer",
    advantage: float = 1.0,
    logprobs: Sequence[float] | None = None,
    calls: Sequence[int] | None = None,
) -> TrainingSample:
    """A row; by default all of its tokens were sampled by the episode's first call."""
    return TrainingSample(
        episode_key=("t", repeat),
        agent_name=agent,
        target_tag=tag,
        token_ids=tuple(ids),
        loss_mask=tuple(bool(m) for m in mask),
        logprobs=tuple(logprobs) if logprobs is not None else tuple(-1.5 * m for m in mask),
        advantages=tuple(advantage if m else 0.0 for m in mask),
        calls=tuple(calls) if calls is not None else tuple(0 if m else -1 for m in mask),
    )


def tiny_qwen(*, vocab_size: int = 12, seed: int = 0) -> Any:
    """A random float32 Qwen3 small enough for unit tests."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config).float().eval()


@st.composite
def samples_strategy(draw: st.DrawFn, *, vocab_size: int = 12, max_rows: int = 6) -> list[TrainingSample]:
    """Rows that share prefixes often: few distinct ids, and rows that branch off earlier rows."""
    rows: list[TrainingSample] = []
    for _ in range(draw(st.integers(1, max_rows))):
        prefix: tuple[int, ...] = ()
        branches: bool = draw(st.booleans())
        if rows and branches:
            parent = draw(st.sampled_from(rows))
            prefix = parent.token_ids[: draw(st.integers(0, len(parent.token_ids)))]
        tail = draw(st.lists(st.integers(0, vocab_size - 1), min_size=2, max_size=6))
        ids = (*prefix, *tail)
        mask = [False, *draw(st.lists(st.booleans(), min_size=len(ids) - 1, max_size=len(ids) - 1))]
        mask[-1] = True
        logprobs = [draw(st.floats(-3, -0.1)) if m else 0.0 for m in mask]
        calls = [
            sum(m and not before for before, m in pairwise(mask[: t + 1])) if mask[t] else -1 for t in range(len(mask))
        ]
        rows.append(
            make_sample(
                ids,
                mask,
                repeat=draw(st.integers(0, 2)),
                tag=draw(st.sampled_from(["seer", "witch"])),
                advantage=draw(st.floats(-2, 2)),
                logprobs=logprobs,
                calls=calls,
            )
        )
    return rows
