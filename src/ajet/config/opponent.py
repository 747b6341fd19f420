"""What speaks for agents that are not trained. Settings that the named opponent does not have stay null."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError

_OPENAI_KNOBS = ("base_url", "model", "api_key_env", "temperature", "max_tokens", "timeout_s")
"""The opponent settings that only `opponent=openai` reads."""


@dataclass
class OpponentConfig:
    """The opponent group."""

    name: str = one_of("scripted", "scripted", "random", "frozen", "openai", "workflow")
    """`scripted` the workflow's own players, `random` legal replies, `frozen` the starting model on the same
    engine, `openai` a remote model, `workflow` each agent's own `debug_model`."""
    params: dict[str, float] = field(default_factory=dict)
    """Handed to scripted players."""
    base_url: str | None = None
    """openai: where the API is, e.g. http://localhost:8000/v1."""
    model: str | None = None
    """openai: the model's name there."""
    api_key_env: str | None = None
    """openai: name of the environment variable with the key, so that no key lands in a run directory;
    null for servers without keys."""
    temperature: float | None = ruled(None, at_least=0)
    """openai: sampling temperature."""
    max_tokens: int | None = ruled(None, at_least=1)
    """openai: most tokens a reply."""
    timeout_s: float | None = ruled(None, above=0)
    """openai: seconds to wait for a reply."""


def check_opponent(opponent: OpponentConfig) -> None:
    """Refuse opponent settings that the named opponent would not read.

    Raises:
        ConfigError: a setting that would be ignored, or one that is missing.
    """
    if opponent.name != "openai":
        for knob in _OPENAI_KNOBS:
            if getattr(opponent, knob) is not None:
                raise ConfigError(
                    f"opponent.{knob} has no effect with opponent={opponent.name}: drop it or choose opponent=openai"
                )
    if opponent.params and opponent.name != "scripted":
        raise ConfigError(
            f"opponent.params has no effect with opponent={opponent.name}: drop it or choose opponent=scripted"
        )
    if opponent.name == "openai":
        for knob in ("base_url", "model"):
            if getattr(opponent, knob) is None:
                raise ConfigError(f"opponent=openai needs opponent.{knob}: set opponent.{knob}=...")
        if opponent.api_key_env is not None and opponent.api_key_env not in os.environ:
            raise ConfigError(
                f"opponent.api_key_env={opponent.api_key_env} is not set in the environment: export it, "
                "or set opponent.api_key_env=null for a server without keys"
            )
