"""The files of a run directory -> pandas frames. Nothing here needs a run to be finished.

In: `metrics.jsonl` and `trajectories/*.parquet`. Out: one row a step, a call, an episode. Token ids, log-probabilities
and messages stay on disk, for they are most of a run: frames hold their counts and means, and `read_texts` reads the
messages of one episode. Left out: what a run was asked to do (`runs`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ajet.errors import RunDirectoryError
from ajet.tracking.files.reading import damaged, read_metric_lines
from ajet.tracking.store import LATER_COLUMNS, SCHEMA

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
    "call_reward",
    "tag_rewards",
    "score",
    "success",
    "status",
    "error",
    "policy_version",
]
_OUTCOME = [
    *KEY,
    "agent",
    "tag",
    "call_index",
    "trained",
    "reward",
    "tag_rewards",
    "score",
    "success",
    "status",
    "error",
]
_TOKENS = ["prompt_ids", "sampled_ids", "logprobs"]
_COUNTS = ["num_prompt", "num_sampled"]
_NEVER_NULL = {*KEY, "agent", "tag", "call_index", "trained", "messages", "reply", "status", "metadata", *_TOKENS}
_TOLD = [
    "agent",
    "tag",
    "call_index",
    "trained",
    "messages",
    "reply",
    "format_error",
    "reward",
    "call_reward",
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
    tables = [_read_table(path, _OUTCOME) for path in files]
    if not tables:
        return pd.DataFrame(columns=_OUTCOME)
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    return frame


def _call_table(path: Path) -> pa.Table:
    table = _read_table(path, [*_PLAIN, *_TOKENS])
    plain = table.select(_PLAIN)
    plain = plain.append_column("num_prompt", pc.list_value_length(table["prompt_ids"]))
    num_sampled = pc.list_value_length(table["sampled_ids"])
    plain = plain.append_column("num_sampled", num_sampled)
    return plain.append_column("logprob", pa.array(_list_means(table["logprobs"]), pa.float64()))


def _read_table(path: Path, columns: list[str], chosen: list[tuple[str, str, Any]] | None = None) -> pa.Table:
    """Columns of one trajectory file, of the kinds that the trajectory store writes.

    Raises:
        RunDirectoryError: the file is damaged, or another program's.
    """
    try:
        found = pq.read_schema(path)
        missing = [name for name in LATER_COLUMNS if name in columns and name not in found.names]
        columns = [name for name in columns if name not in missing]
        for name in columns:
            if name not in found.names or found.field(name).type != SCHEMA.field(name).type:
                raise damaged(path, f"it has no column {name} of {SCHEMA.field(name).type}")
        # Without `partitioning` a folder of the path that is called `step=3` would become a column.
        table = pq.read_table(path, columns=columns, filters=chosen, partitioning=None, page_checksum_verification=True)
        table.validate(full=True)
    except RunDirectoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error
    empty = next((name for name in columns if name in _NEVER_NULL and table[name].null_count), None)
    if empty is not None:
        raise damaged(path, f"a row has no {empty}")
    split, _, step = path.stem.rpartition("_")
    wanted = {"split": split, "step": int(step) if step.isdigit() else -1}
    for name in set(wanted).intersection(columns):
        if pc.unique(table[name]).to_pylist() not in ([], [wanted[name]]):
            raise damaged(path, f"its rows are of another {name} than its name says")
    for name in missing:
        table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    if "tag_rewards" in table.column_names:
        _check_rewards(path, pc.unique(table["tag_rewards"]).to_pylist())
    return table


def _check_rewards(path: Path, texts: list[str | None]) -> None:
    """Refuse what is not JSON of a reward a tag; null in files of earlier versions."""
    for text in texts:
        try:
            rewards = {} if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise damaged(path, error) from error
        if not isinstance(rewards, dict) or not all(map(_is_finite, rewards.values())):
            raise damaged(path, "the rewards of an episode are not a number a tag")


def _is_finite(value: object) -> bool:
    # A boolean is a number to Python, and a whole number may be larger than any float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _list_means(lists: pa.ChunkedArray) -> list[float | None]:
    """The mean of each list, None for an empty one, without making Python numbers of the values."""
    flat = pd.Series(pc.list_flatten(lists).to_numpy(), dtype="float64")
    row = pc.list_parent_indices(lists).to_numpy()
    means = flat.groupby(row).mean()
    return [None if pd.isna(mean) else float(mean) for mean in means.reindex(range(len(lists)))]


def episodes_of(calls: pd.DataFrame) -> pd.DataFrame:
    """One row an episode.

    Columns: split, step, task, repeat, status, error, success, `score` (`Episode.score`, NaN for a lost episode),
    `num_calls`, `num_trained_calls`, `num_prompt`, `num_sampled` (tokens of the trained agents, if `calls` counts
    them), and `reward/<tag>`: the mean over the tag's trained agents.

    Files of earlier versions hold neither score nor rewards of episodes: theirs are over the agents that spoke.
    """
    grouped = calls.assign(is_call=calls["call_index"] >= 0).groupby(KEY, sort=False)
    episodes = grouped.agg(
        status=("status", "first"),
        error=("error", "first"),
        success=("success", "first"),
        score=("score", "first"),
        tag_rewards=("tag_rewards", "first"),
        num_calls=("is_call", "sum"),
        num_trained_calls=("trained", "sum"),
        **{name: (name, "sum") for name in _COUNTS if name in calls},
    )
    texts, scores = episodes.pop("tag_rewards"), episodes.pop("score").astype("float64")
    rewards = _told_rewards(texts)
    if len(rewards) < len(episodes):
        rewards = rewards.combine_first(_rewards_of_speakers(calls))
    rewards = rewards.reindex(index=episodes.index, columns=sorted(rewards.columns))
    won = episodes["success"].astype("Float64").astype("float64")
    from_calls = won.fillna(rewards.mean(axis=1).astype("float64"))
    usable = episodes["status"].isin(["ok", "policy_error"])
    episodes.insert(3, "score", scores.fillna(from_calls).where(usable))
    return episodes.join(rewards.add_prefix("reward/")).reset_index()


def _told_rewards(texts: pd.Series) -> pd.DataFrame:
    """A row an episode whose file holds its rewards, a column a tag."""
    known = texts.dropna()
    numbers, distinct = pd.factorize(known)
    rewards = pd.DataFrame([json.loads(text) for text in distinct], index=range(len(distinct)), dtype="float64")
    return rewards.take(numbers).set_axis(known.index)


def _rewards_of_speakers(calls: pd.DataFrame) -> pd.DataFrame:
    """As `_told_rewards`, of the rewards that stand on calls."""
    trained = calls[calls["reward"].notna()]
    # An agent's reward stands on each of its calls, and counts once.
    agents = trained.groupby([*KEY, "tag", "agent"], sort=False)["reward"].first()
    rewards: pd.DataFrame = agents.groupby([*KEY, "tag"], sort=False).mean().unstack("tag").astype("float64")
    return rewards


def read_texts(files: Sequence[Path], *, task: str, repeat: int) -> pd.DataFrame:
    """Every call of one episode with its texts and tokens.

    Columns: agent, tag, call_index, trained, messages and metadata (parsed), reply, format_error, reward, call_reward,
    advantage, policy_version, and prompt_ids, sampled_ids and logprobs (arrays; empty for agents that are not trained).

    Args:
        files: the trajectory files of one split and step.
        task: its task_id.
        repeat: which of the task's episodes.
    """
    chosen = [("task", "=", task), ("repeat", "=", repeat)]
    tables = [_decoded(path, _read_table(path, _TOLD, chosen)) for path in files]
    return pd.concat(tables, ignore_index=True).sort_values("call_index", ignore_index=True)


def _decoded(path: Path, table: pa.Table) -> pd.DataFrame:
    """The rows with their JSON read and their tokens checked."""
    num_sampled, num_logprobs = (pc.list_value_length(table[name]).to_pylist() for name in ("sampled_ids", "logprobs"))
    ids = [pc.list_flatten(table[name]) for name in ("prompt_ids", "sampled_ids")]
    if num_sampled != num_logprobs or any(len(flat) and pc.min(flat).as_py() < 0 for flat in ids):
        raise damaged(path, "a call has no log-probability for each of its tokens, or tokens that cannot be")
    texts: pd.DataFrame = table.to_pandas()
    try:
        for column in ("messages", "metadata"):
            texts[column] = pd.Series([json.loads(text) for text in texts[column]], dtype=object)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    for messages, metadata in zip(texts["messages"], texts["metadata"], strict=True):
        is_list = isinstance(messages, list) and all(isinstance(message, dict) for message in messages)
        if not is_list or not isinstance(metadata, dict):
            raise damaged(path, "the messages of a call are not a list of messages, or its metadata not a mapping")
    return texts
