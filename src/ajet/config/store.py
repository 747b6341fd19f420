"""Where Hydra finds ajet's configuration: the typed schemas and the folder of YAML files.

`conf/engine/vllm.yaml` takes `/schema/engine/vllm`, the dataclass of that option, and says what differs from its
defaults. The dataclasses have a group of their own so that they are not taken for options.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from ajet.config.options import GROUPS, options
from ajet.config.root import Config, EvaluateConfig, PlayConfig

SCHEMAS: dict[str, type] = {"train": Config, "play": PlayConfig, "evaluate": EvaluateConfig}
"""Root schema by the name of its primary YAML file."""


@cache
def register() -> None:
    """Make the schemas known to Hydra as `<name>_schema`, and what YAML computes with; once, for it takes 40 ms."""
    OmegaConf.register_new_resolver("either", lambda first, second: first or second, replace=True)
    OmegaConf.register_new_resolver("output_dir", _output_dir, replace=True)
    for name, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    for group in GROUPS:
        for name, schema in options(group).items():
            ConfigStore.instance().store(group=f"schema/{group}", name=name, node=schema)


def _output_dir() -> str:
    """Where Hydra lets this job write; where it will, as long as there is no job: `--cfg job --resolve` starts none."""
    hydra = HydraConfig.get()
    return str(hydra.run.dir if OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra.runtime.output_dir)


def conf_dir() -> Path:
    """The YAML files: inside the package when installed from a wheel, else in the repository."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent.parent / "conf"


def group_options(group: str) -> list[str]:
    """The options of a config group, sorted; empty if there is no such group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def groups() -> list[str]:
    """The config groups, sorted, Hydra's own left out."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra")
