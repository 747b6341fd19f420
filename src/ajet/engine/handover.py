"""How the policy reaches vLLM's servers: as whole weights in a file, or as adapters in a folder.

In: what `update_weights` is given. Out: a file or folder that every server loads, and what requests say of it. Whole
weights take the place of the old ones: requests that run stand still meanwhile and go on with the new ones. Adapters
come beside the old ones: requests end with those that they began with, and nothing stands still.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ajet.engine.adapters import write_adapters
from ajet.engine.base import Adapters, checked_weights
from ajet.engine.server import Server
from ajet.engine.server_process import memory_folder
from ajet.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What servers sample the policy from."""

    version: int = 0
    path: Path | None = None
    """Of its file or folder; None for the checkpoint that the servers were started with."""
    adapter: str | None = None
    """Its name where it is one beside the checkpoint's weights."""


class Handover(Protocol):
    """One of the two ways."""

    num_kept: int
    """Earlier policies that servers may still read."""

    def write(self, weights: Iterable[tuple[str, Tensor]], version: int) -> Policy:
        """Write weights where servers read them; errors as `Engine.update_weights`."""
        ...

    def put(self, server: Server, policy: Policy, old: Policy) -> None:
        """Let a server sample from it, and forget what was there before, but for adapters of `old`."""
        ...

    def remove(self, policy: Policy) -> None:
        """Remove what was written, for no server reads it again."""
        ...


class WholeWeights:
    """By a safetensors file with Hugging Face names."""

    num_kept = 0

    def __init__(self, folder: Path, model: Callable[[], Module]) -> None:
        """`folder`: where files go; `model`: what they are for, without storage."""
        self._folder, self._model = folder, model

    def write(self, weights: Iterable[tuple[str, Tensor]], version: int) -> Policy:
        """See `Handover.write`."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        tensors = {name: tensor.cpu().contiguous() for name, tensor in checked_weights(weights, self._model())}
        path = self._folder / f"weights_{version}.safetensors"
        try:
            save_file(tensors, path)
        except (OSError, SafetensorError) as error:
            raise EngineError(f"{path} cannot be written for the servers: {error}; see engine.weights_dir") from error
        return Policy(version=version, path=path)

    def put(self, server: Server, policy: Policy, old: Policy) -> None:
        """See `Handover.put`."""
        with server.paused():
            server.put_weights(policy.path)
            server.put_version(policy.version)

    def remove(self, policy: Policy) -> None:
        """See `Handover.remove`."""
        if policy.path is not None:
            policy.path.unlink(missing_ok=True)


class AdaptersBeside:
    """By a folder in peft's format; several training processes count alike, and so name an adapter alike."""

    # Of requests that began before the last update; and of another process's that had not heard of the one before.
    num_kept = 2

    def __init__(self, folder: Path, model: Callable[[], Module], adapters: Adapters) -> None:
        """As `WholeWeights`; `adapters`: their shape."""
        self._folder, self._model, self._adapters = folder, model, adapters
        self._num_written = 0

    def named(self, version: int) -> Policy:
        """The next one, which another training process writes."""
        self._num_written += 1
        name = f"policy-{self._num_written}"
        return Policy(version=version, path=self._folder / name, adapter=name)

    def write(self, weights: Iterable[tuple[str, Tensor]], version: int) -> Policy:
        """See `Handover.write`."""
        policy = self.named(version)
        assert policy.path is not None
        write_adapters(weights, self._adapters, self._model(), policy.path)
        return policy

    def put(self, server: Server, policy: Policy, old: Policy) -> None:
        """See `Handover.put`."""
        if policy.adapter is not None and policy.path is not None:
            server.put_adapter(policy.adapter, policy.path, keep=old.adapter)

    def remove(self, policy: Policy) -> None:
        """See `Handover.remove`."""
        if policy.path is not None:
            shutil.rmtree(policy.path, ignore_errors=True)


def handover_folder(weights_dir: str | None) -> Path:
    """A new folder in `engine.weights_dir`, or in memory.

    Raises:
        ConfigError: there is no such directory.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="ajet-weights-", dir=weights_dir or memory_folder()))
    except OSError as error:
        raise ConfigError(
            f"engine.weights_dir={weights_dir} takes no files ({error.strerror}): name a directory that is there"
        ) from error
