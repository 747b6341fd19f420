"""What every test shares: no network, no deadlines on shared cores, a folder that passes for a checkpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from recipes.tinker_server.process import TinkerServer

# Before any library that would look them up on import.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TINKER_TELEMETRY", "0")
# The key that tells own run directories from others' must not be the tester's.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="ajet-tests-")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores: a second thread of each would only take the other's place.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("ajet", deadline=None, print_blob=True)
settings.load_profile("ajet")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A directory that passes for a checkpoint as far as configuration looks."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    return directory


@pytest.fixture(scope="session")
def tinker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinkerServer]:
    """A real server of the Tinker API with the small model, for all tests of this process."""
    # Not above, where every test would wait for them.
    from recipes.tinker_server.process import TinkerServer

    from ajet.config.model import resolve_model_path

    with TinkerServer(Path(resolve_model_path("builtin:tiny")), tmp_path_factory.mktemp("tinker_server")) as server:
        yield server
