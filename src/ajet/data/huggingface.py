"""`data=huggingface`: datasets of the Hugging Face hub, or a folder -> rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from ajet.config.fields import named, place
from ajet.data.listed import PathConfig
from ajet.data.rows import TaskRow
from ajet.errors import ConfigError, require_extra


@dataclass
class HuggingFaceConfig(PathConfig):
    """A dataset; subset and split as it names them."""

    reader: str = named("huggingface")
    path: str = place(needed="a folder or a hub id")
    """The dataset: a folder or a hub id."""
    subset: str | None = None
    """The dataset's configuration."""
    split: str = "train"
    """The split to train on."""
    held_out_split: str | None = None
    """The split that is held out; null: a part of `split` is."""

    needs_extras: ClassVar[tuple[str, ...]] = ("datasets",)

    @override
    def rows(self, path: str, *, held_out: bool, setting: str) -> list[TaskRow]:
        split = self.held_out_split or self.split if held_out else self.split
        return _from_dataset(path, self.subset, split, setting)

    @override
    def holds_out_a_part(self) -> bool:
        return self.held_out_path is None and self.held_out_split is None

    @override
    def check(self, *, num_train_tasks: int | None) -> None:
        super().check(num_train_tasks=num_train_tasks)
        if self.held_out_split is not None and self.held_out_fraction is not None:
            raise ConfigError("data.held_out_fraction has no effect with data.held_out_split: set one of them")
        if self.held_out_path is None and self.held_out_split is not None and self.held_out_split == self.split:
            raise ConfigError(f"data.held_out_split={self.held_out_split} is the split to train on: choose another")


def _from_dataset(path: str, subset: str | None, split: str, setting: str) -> list[TaskRow]:
    require_extra("datasets", needed_by="data=huggingface")
    import datasets  # takes seconds

    try:
        saved = _saved(path, subset, split)
        loaded = datasets.load_dataset(path, subset, split=split) if saved is None else saved
    except (OSError, ValueError) as error:  # among them unknown splits and configurations, which it lists
        raise ConfigError(f"{setting}={path}: {' '.join(str(error).split())}") from error
    return [TaskRow(place=f"{path}[{split}], row {number}", values=dict(row)) for number, row in enumerate(loaded, 1)]


def _saved(path: str, subset: str | None, split: str) -> Sequence[Any] | None:
    """A dataset that `save_to_disk` wrote; None if it is none."""
    import datasets

    if not any((Path(path) / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    loaded = datasets.load_from_disk(path)
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    if subset is not None:
        raise ValueError(f"it was written by save_to_disk and has no subset {subset}: set data.subset=null")
    if split not in splits:
        raise ValueError(f"there is no split {split}; there is {', '.join(splits)}")
    found: Sequence[Any] = splits[split]
    return found
