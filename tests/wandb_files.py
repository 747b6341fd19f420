"""Reads an offline W&B run back: its file is a log in LevelDB's format, of the protobuf records that wandb ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


@dataclass
class OfflineRun:
    """What W&B would show."""

    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    name: str = ""
    group: str = ""


def read_offline_run(path: Path) -> OfflineRun:
    """The run of one `.wandb` file."""
    run = OfflineRun()
    for data in _records(path.read_bytes()):
        record: Any = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            # A later record may hold nothing but what has changed.
            run.name, run.group = record.run.display_name or run.name, record.run.run_group or run.group
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            run.history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return run


def _records(content: bytes) -> Iterator[bytes]:
    place, begun = HEADER, b""  # the file starts with a header as long as a record's
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        begun = (b"" if kind in (FULL, FIRST) else begun) + content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            yield begun
