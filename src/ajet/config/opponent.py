"""What speaks for agents that are not trained. Settings that the named opponent does not have stay null."""

from __future__ import annotations

from dataclasses import dataclass, field

from ajet.config.fields import one_of, ruled


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
