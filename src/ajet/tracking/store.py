"""The trajectory store: one parquet file a step, one row a call, enough to read every game and recheck every loss.

Written whole and renamed, so a reader never sees half a file. Read back by `ajet.analysis`, the viewer and anyone
with a parquet reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ajet.records import Call, Episode, EpisodeGroup
from ajet.tracking.files.writing import write_whole, writing

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("split", pa.string()),
        ("task", pa.string()),
        ("episode", pa.string()),
        ("repeat", pa.int32()),
        ("agent", pa.string()),
        ("tag", pa.string()),
        ("call_index", pa.int32()),
        ("trained", pa.bool_()),
        ("messages", pa.string()),
        ("reply", pa.string()),
        ("format_error", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("sampled_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("advantage", pa.float32()),
        ("reward", pa.float32()),
        ("call_reward", pa.float32()),
        ("tag_rewards", pa.string()),
        ("score", pa.float64()),
        ("success", pa.bool_()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("metadata", pa.string()),
        ("policy_version", pa.int32()),
        ("grammar", pa.string()),
    ]
)
"""`messages`, `tag_rewards` and `metadata` are JSON; advantage and rewards are null for agents that are not trained."""
LATER_COLUMNS = ("tag_rewards", "score", "call_reward", "grammar")
"""That files of earlier versions do not have."""
COLUMNS: Mapping[str, str] = {
    "step": "Policy updates before this collection.",
    "split": "`train`, `eval`, or `play` for `python -m ajet.rollout`.",
    "task": "The task's id.",
    "episode": "`<task>/<repeat>`, unique within the file.",
    "repeat": "Which of the group's episodes this is, from 0.",
    "agent": "The agent's name.",
    "tag": "The agent's target_tag.",
    "call_index": "Order within the episode over all agents, from 0; -1 in the one row of an episode without a call.",
    "trained": "Whether the policy answered, and its tokens are trained on.",
    "messages": "The request as the program sent it: a JSON list in OpenAI format. For reading, not for training.",
    "reply": "The reply as text, special tokens included where the policy answered.",
    "format_error": "Why the reply could not be parsed, or does not fit the tool's parameters; null where all is well.",
    "prompt_ids": "Token ids of the prompt; empty for untrained agents.",
    "sampled_ids": "Token ids that were sampled; empty for untrained agents.",
    "logprobs": "Log-probability of each sampled id when it was sampled, after temperature and grammar; as long as "
    "`sampled_ids`.",
    "advantage": "Advantage of the call's tokens in this step, mean; null in evaluations, for untrained agents "
    "and in groups that were replaced (`rollout.max_resamples`).",
    "reward": "The agent's reward, those of its calls included; null for untrained agents and lost episodes.",
    "call_reward": "What the workflow gave for this reply alone, 0 where nothing; null for untrained agents.",
    "tag_rewards": "The episode's reward by target_tag, the mean over the tag's trained agents, those that never spoke "
    "included: a JSON object, empty for lost episodes.",
    "score": "What the episode counts for in evaluations: success where the workflow said, else the mean of "
    "`tag_rewards`; null for lost episodes.",
    "success": "What the workflow said of the episode; null where it said nothing.",
    "status": "`ok`, `policy_error`, `infra_error` or `timeout`.",
    "error": "What went wrong, in one line; null where the status is `ok`.",
    "metadata": "What the workflow returned as `metadata`: a JSON object.",
    "policy_version": "Weight updates that the sampling weights had seen.",
    "grammar": "What the reply was sampled under with `rollout.grammar=tools`, xgrammar's structural tag; null where "
    "sampling was free.",
}
"""What each column of `SCHEMA` holds; `docs/reference/run-directory.md` is made from it."""
ROWS_A_GROUP = 2000
"""Small row groups, so that a reader of one episode decodes little else."""
NO_CALL = Call(index=-1, agent_name="", target_tag="", trained=False, messages=(), reply="")
"""Stands for an episode that ended before its first call, so that its error is not lost."""

Advantages = Mapping[tuple[str, int, int], float]
"""By (task_id, repeat, index of the call)."""


class TrajectoryStore:
    """Writes `trajectories/*.parquet` of one run."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made on the first write."""
        self._folder = folder

    def write(self, groups: Sequence[EpisodeGroup], advantages: Advantages, *, step: int, split: str) -> Path:
        """Write one collection as `<split>_<step>.parquet` and return its path; `StorageError` where it cannot be."""
        rows = [
            _row(episode, call, advantages, step=step, split=split)
            for group in groups
            for episode in group.episodes
            for call in episode.calls or (NO_CALL,)
        ]
        path = self._folder / f"{split}_{step:06d}.parquet"
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda partial: _write_table(table, partial))
        return path


def _write_table(table: pa.Table, path: Path) -> None:
    # The checksums let a reader find what a disk has changed, which would be other numbers otherwise.
    pq.write_table(table, path, compression="zstd", row_group_size=ROWS_A_GROUP, write_page_checksum=True)


def _row(episode: Episode, call: Call, advantages: Advantages, *, step: int, split: str) -> dict[str, Any]:
    trained = call.trained
    row = {
        "step": step,
        "split": split,
        "task": episode.task.task_id,
        "episode": f"{episode.task.task_id}/{episode.repeat}",
        "repeat": episode.repeat,
        "agent": call.agent_name,
        "tag": call.target_tag,
        "call_index": call.index,
        "trained": trained,
        "messages": json.dumps(list(call.messages), ensure_ascii=False, default=str),
        "reply": call.reply,
        "format_error": call.format_error,
        "prompt_ids": call.prompt_ids,
        "sampled_ids": call.sampled_ids,
        "logprobs": call.logprobs,
        "advantage": advantages.get((episode.task.task_id, episode.repeat, call.index)) if trained else None,
        "reward": episode.rewards.get(call.agent_name) if trained else None,
        "call_reward": call.reward if trained else None,
        "tag_rewards": json.dumps({_encodable(tag): reward for tag, reward in episode.tag_rewards().items()}),
        "score": episode.score,
        "success": episode.is_success,
        "status": episode.status,
        "error": episode.error,
        "metadata": json.dumps(dict(episode.metadata), ensure_ascii=False, default=str),
        "policy_version": call.policy_version,
        "grammar": call.grammar or None,
    }
    return {name: _encodable(value) if isinstance(value, str) else value for name, value in row.items()}


def _encodable(text: str) -> str:
    """The text with half surrogate pairs, which a model can spell in JSON and nothing can encode, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
