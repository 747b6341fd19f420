"""The files of a run directory -> pandas frames. Nothing here needs a run to be finished.

In: `metrics.jsonl` and `trajectories/*.parquet`. Out: one row a step, a call, an episode. Token ids, log-probabilities
and messages stay on disk, for they are most of a run: frames hold their counts and means, and `read_texts` reads the
messages of one episode. Left out: what a run was asked to do (`runs`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ajet.storage.reading import read_metric_lines

KEY = ["split", "step", "task", "repeat"]
"""What names an episode within a run."""
_PLAIN = [
    "split",
    "step",
    "task",
    "repeat",
    "agent",
    "tag",
    "call_index",
    "trained",
    "format_error",
    "advantage",
    "reward",
    "success",
    "status",
    "error",
    "policy_version",
]
_OUTCOME = [*KEY, "agent", "tag", "call_index", "trained", "reward", "success", "status", "error"]
_TOKENS = ["prompt_ids", "sampled_ids", "logprobs"]
_COUNTS = ["num_prompt", "num_sampled"]
_TOLD = [
    "agent",
    "tag",
    "call_index",
    "trained",
    "messages",
    "reply",
    "format_error",
    "reward",
    "advantage",
    "policy_version",
    "metadata",
    *_TOKENS,
]


def read_metrics(run_dir: Path) -> pd.DataFrame:
    """`metrics.jsonl`, one row a logged step, `step` first; a last line that is still being written is left out.

    A run that has not logged yet gives an empty frame.
    """
    return _with_step(pd.DataFrame(read_metric_lines(run_dir / "metrics.jsonl")))


def _with_step(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if "step" in frame.columns else pd.DataFrame({"step": pd.Series(dtype="int64")})


def read_calls(files: Iterable[Path]) -> pd.DataFrame:
    """One row a call of every agent, trained or not.

    Columns: those of the trajectory store but for messages, reply, ids and log-probabilities, and
    `num_prompt` and `num_sampled` (tokens; 0 for agents that are not trained), `logprob` (mean over sampled tokens),
    `turn` (which call of its agent in its episode it is, from 0). An episode that ended before its first call
    has one row with `call_index` -1.
    """
    tables = [_call_table(path) for path in files]
    if not tables:
        return pd.DataFrame(columns=[*_PLAIN, "num_prompt", "num_sampled", "logprob", "turn"])
    calls: pd.DataFrame = pa.concat_tables(tables).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    calls["turn"] = calls.groupby([*KEY, "agent"], sort=False).cumcount()
    return calls


def read_outcomes(files: Iterable[Path]) -> pd.DataFrame:
    """As `read_calls`, with no more than `episodes_of` needs: about a million calls a second."""
    tables = [pq.read_table(path, columns=_OUTCOME) for path in files]
    if not tables:
        return pd.DataFrame(columns=_OUTCOME)
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    return frame


def _call_table(path: Path) -> pa.Table:
    table = pq.read_table(path, columns=[*_PLAIN, *_TOKENS])
    plain = table.select(_PLAIN)
    plain = plain.append_column("num_prompt", pc.list_value_length(table["prompt_ids"]))
    num_sampled = pc.list_value_length(table["sampled_ids"])
    plain = plain.append_column("num_sampled", num_sampled)
    return plain.append_column("logprob", pa.array(_list_means(table["logprobs"]), pa.float64()))


def _list_means(lists: pa.ChunkedArray) -> list[float | None]:
    """The mean of each list, None for an empty one, without making Python numbers of the values."""
    flat = pd.Series(pc.list_flatten(lists).to_numpy(), dtype="float64")
    row = pc.list_parent_indices(lists).to_numpy()
    means = flat.groupby(row).mean()
    return [None if pd.isna(mean) else float(mean) for mean in means.reindex(range(len(lists)))]


def episodes_of(calls: pd.DataFrame) -> pd.DataFrame:
    """One row an episode.

    Columns: split, step, task, repeat, status, error, success, `score` (success where it is known, else the mean reward
    of its tags, NaN for a lost episode), `num_calls`, `num_trained_calls`, `num_prompt`, `num_sampled` (tokens of the
    trained agents, if `calls` counts them), and `reward/<tag>`: the mean over the tag's trained agents that spoke.
    """
    grouped = calls.assign(is_call=calls["call_index"] >= 0).groupby(KEY, sort=False)
    episodes = grouped.agg(
        status=("status", "first"),
        error=("error", "first"),
        success=("success", "first"),
        num_calls=("is_call", "sum"),
        num_trained_calls=("trained", "sum"),
        **{name: (name, "sum") for name in _COUNTS if name in calls},
    )
    trained = calls[calls["reward"].notna()]
    # An agent's reward stands on each of its calls, and counts once.
    agents = trained.groupby([*KEY, "tag", "agent"], sort=False)["reward"].first()
    rewards = agents.groupby([*KEY, "tag"], sort=False).mean().unstack("tag")
    rewards = rewards.reindex(columns=sorted(rewards.columns))
    won = episodes["success"].astype("Float64").astype("float64")
    mean_reward = rewards.mean(axis=1).reindex(episodes.index).astype("float64")
    usable = episodes["status"].isin(["ok", "policy_error"])
    episodes.insert(3, "score", won.fillna(mean_reward).where(usable))
    return episodes.join(rewards.add_prefix("reward/")).reset_index()


def read_texts(files: Sequence[Path], *, task: str, repeat: int) -> pd.DataFrame:
    """Every call of one episode with its texts and tokens.

    Columns: agent, tag, call_index, trained, messages and metadata (parsed), reply, format_error, reward, advantage,
    policy_version, and prompt_ids, sampled_ids and logprobs (arrays; empty for agents that are not trained).

    Args:
        files: the trajectory files of one split and step.
        task: its task_id.
        repeat: which of the task's episodes.
    """
    chosen = [("task", "=", task), ("repeat", "=", repeat)]
    texts: pd.DataFrame = pa.concat_tables(
        [pq.read_table(path, columns=_TOLD, filters=chosen) for path in files]
    ).to_pandas()
    for column in ("messages", "metadata"):
        texts[column] = [json.loads(text) for text in texts[column]]
    return texts.sort_values("call_index", ignore_index=True)
