"""Where tasks come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError

READERS = ("seeds", "jsonl", "json", "csv", "parquet", "huggingface", "python")
TASK_FIELDS = ("task_id", "main_query", "init_messages", "env_type")


@dataclass
class DataConfig:
    """The data group."""

    reader: str = one_of("seeds", *READERS)
    """`seeds` makes tasks that are a number; the others read them."""
    path: str | None = None
    """The training tasks: a file; for `huggingface` a folder or a hub id; for `python` `module:function` or
    `path/file.py->function`, which yields tasks or mappings."""
    held_out_path: str | None = None
    """The held-out tasks, likewise; null: a part of the training tasks is held out."""
    subset: str | None = None
    """`huggingface`: the dataset's configuration."""
    split: str = "train"
    """`huggingface`: the split to train on."""
    held_out_split: str | None = None
    """`huggingface`: the split that is held out; null: a part of `split` is."""
    fields: dict[str, str] = field(default_factory=dict)
    """Column by task field (task_id, main_query, init_messages, env_type) where their names differ, e.g.
    {main_query: question}. Every other column becomes metadata under its own name."""
    held_out_fraction: float = ruled(0.1, above=0, below=1)
    """How much is held out where nothing else says so; which tasks are depends on their content alone."""
    shuffle: bool = True
    """Draw a new order each epoch; otherwise the file's."""


def check_data(data: DataConfig, num_train_tasks: int | None) -> None:
    """Refuse settings that the reader would ignore, and sources that are not there.

    Raises:
        ConfigError: what to change.
    """
    if data.reader == "seeds":
        named = [name for name in ("path", "held_out_path") if getattr(data, name) is not None]
        if named or data.fields:
            key = named[0] if named else "fields"
            raise ConfigError(f"data.{key} has no effect with data=seeds: choose data={'|'.join(READERS[1:])}")
    elif data.path is None:
        what = {"huggingface": "a folder or a hub id", "python": "module:function or path/file.py->function"}
        raise ConfigError(f"data={data.reader} needs data.path: {what.get(data.reader, 'the file of training tasks')}")
    elif num_train_tasks is not None:
        raise ConfigError(f"workflow.num_train_tasks has no effect with data={data.reader}: set it to null")
    if data.reader != "huggingface":
        for name in ("subset", "held_out_split"):
            if getattr(data, name) is not None:
                raise ConfigError(f"data.{name} has no effect with data={data.reader}: only data=huggingface has it")
    if data.reader in ("jsonl", "json", "csv", "parquet"):
        for name in ("path", "held_out_path"):
            path = getattr(data, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"data.{name}: there is no file {path}")
