"""The config as users' workflows and judges read it: dots all the way down, sections of the user's own included.

`tuner.config.rollout.temperature` is ajet's. `tuner.config.frozen_lake.size` is the user's, set by
`own.frozen_lake.size=4`. `tuner.config.ajet` holds both again, under the name and with the defaults that AgentJet's
workflows rely on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ajet.config.root import Config

AGENTJET_DEFAULTS: Mapping[str, Any] = {
    "rollout": {"multi_turn": {"max_steps": 30}},
    "task_judge": {"alien_llm_model": "qwen3-235b-a22b-instruct-2507", "alien_llm_response_length": 512},
}
"""Settings that AgentJet's workflows and judges read and ajet has no use for."""


class ConfigView:
    """Read-only. Layers that lie over each other: the first that has a name answers, sections of several are merged."""

    def __init__(self, *layers: Any, path: str = "") -> None:
        """Layers are dataclasses or mappings, the first counts most; `path` is for errors."""
        vars(self).update(_layers=layers, _path=path)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the config is read-only: set {self._path}{name} on the command line")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # no setting; copies look for such names before there are layers
            raise AttributeError(name)
        found = [layer[name] for layer in map(_as_mapping, self._layers) if name in layer]
        if not found:
            known = ", ".join(self) or "nothing"
            raise AttributeError(f"the config has no {self._path}{name}; there is {known} (yours: own.<section>.<key>)")
        sections = [value for value in found if _is_section(value)]
        if not _is_section(found[0]):
            return found[0]
        return ConfigView(*sections, path=f"{self._path}{name}.")

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(name) from error

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or a default where there is none."""
        return getattr(self, name, default)

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        """The names here, each once."""
        return iter(dict.fromkeys(name for layer in self._layers for name in _as_mapping(layer)))

    def keys(self) -> list[str]:
        """The names here; makes `dict(section)` work."""
        return list(self)

    def __repr__(self) -> str:
        return f"ConfigView({', '.join(self)})"


def user_view(config: Config) -> ConfigView:
    """What workflows and judges are given."""
    own = dict(config.own)
    agentjet = own.pop("ajet", {})
    return ConfigView({"ajet": ConfigView(agentjet, config, AGENTJET_DEFAULTS, path="ajet.")}, config, own)


def _as_mapping(layer: Any) -> Mapping[str, Any]:
    if is_dataclass(layer):
        return {spec.name: getattr(layer, spec.name) for spec in fields(layer)}
    assert isinstance(layer, Mapping)
    return layer


def _is_section(value: Any) -> bool:
    return is_dataclass(value) or isinstance(value, Mapping)
