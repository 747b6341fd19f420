"""Where tasks come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ajet.config.fields import one_of, ruled
from ajet.config.model import BUILTIN_PREFIX
from ajet.errors import ConfigError

READERS = ("seeds", "jsonl", "json", "csv", "parquet", "huggingface", "python")
TASK_FIELDS = ("task_id", "main_query", "init_messages", "env_type")
_WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
_OWN: dict[str, tuple[str, ...]] = {
    "path": READERS[1:],
    "held_out_path": READERS[1:],
    "fields": READERS[1:],
    "content": READERS[1:],
    "held_out_fraction": READERS[1:],
    "subset": ("huggingface",),
    "split": ("huggingface",),
    "held_out_split": ("huggingface",),
}
"""Settings that only some readers read."""


@dataclass
class DataConfig:
    """The data group."""

    reader: str = one_of("seeds", *READERS)
    """`seeds` makes tasks that are a number; the others read them."""
    path: str | None = None
    """The training tasks: a file, or `builtin:<workflow>/<file>` for one that ships with a workflow; for
    `huggingface` a folder or a hub id; for `python` `module:function` or `path/file.py->function`, which yields tasks
    or mappings."""
    held_out_path: str | None = None
    """The held-out tasks, likewise; null: a part of the training tasks is held out."""
    subset: str | None = None
    """`huggingface`: the dataset's configuration."""
    split: str | None = None
    """`huggingface`: the split to train on."""
    held_out_split: str | None = None
    """`huggingface`: the split that is held out; null: a part of `split` is."""
    fields: dict[str, str] = field(default_factory=dict)
    """Column by task field (task_id, main_query, init_messages, env_type) where their names differ, e.g.
    {main_query: question}. Every other column becomes metadata under its own name, and so does a column that is a field
    here, the id's excepted."""
    content: list[str] | None = None
    """What makes two tasks the same, for keeping held-out ones apart: task fields or metadata, e.g. [main_query,
    choices]; null: the question (main_query, init_messages), or everything where tasks have none."""
    held_out_fraction: float | None = ruled(None, above=0, below=1)
    """How much is held out where nothing else says so; null: a tenth. Which tasks are depends on content alone."""
    shuffle: bool = True
    """Draw a new order each epoch; otherwise the file's."""


def check_data(data: DataConfig, num_train_tasks: int | None) -> None:
    """Refuse settings that the reader would ignore, and sources that are not there.

    Raises:
        ConfigError: what to change.
    """
    for name, readers in _OWN.items():
        if getattr(data, name) not in (None, {}) and data.reader not in readers:
            raise ConfigError(
                f"data.{name} has no effect with data={data.reader}: drop it or choose data={'|'.join(readers)}"
            )
    if data.reader == "seeds":
        if not data.shuffle:
            raise ConfigError("data.shuffle has no effect with data=seeds: seeds have no order of their own")
        return
    if data.path is None:
        what = {"huggingface": "a folder or a hub id", "python": "module:function or path/file.py->function"}
        raise ConfigError(f"data={data.reader} needs data.path: {what.get(data.reader, 'the file of training tasks')}")
    if num_train_tasks is not None:
        raise ConfigError(f"workflow.num_train_tasks has no effect with data={data.reader}: set it to null")
    if data.reader == "huggingface" and data.split is None:
        raise ConfigError("data=huggingface needs data.split, e.g. train")
    _check_held_out(data)
    if data.reader in ("jsonl", "json", "csv", "parquet"):
        for name in ("path", "held_out_path"):
            path = getattr(data, name)
            if path is not None and not Path(resolve_data_path(path)).is_file():
                raise ConfigError(f"data.{name}: there is no file {path}")


def resolve_data_path(path: str) -> str:
    """`data.path` as readers take it: `builtin:math/train.jsonl` is a file in that workflow's folder, wherever ajet is
    installed; any other path is left as it is."""
    is_builtin = path.startswith(BUILTIN_PREFIX)
    return str(_WORKFLOWS / path.removeprefix(BUILTIN_PREFIX)) if is_builtin else path


def _check_held_out(data: DataConfig) -> None:
    for name in ("held_out_path", "held_out_split"):
        if getattr(data, name) is not None and data.held_out_fraction is not None:
            raise ConfigError(f"data.held_out_fraction has no effect with data.{name}: set one of them")
    if data.held_out_path is None and data.held_out_split is not None and data.held_out_split == data.split:
        raise ConfigError(f"data.held_out_split={data.held_out_split} is the split to train on: choose another")
