"""The settings of `engine=tinker`: a server that speaks the Tinker API samples, and trains as well.

`tinker_engine` has the engine, `tinker_service` the connection, apart because they load the client; `ajet.train` has
what learns there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from ajet.config.fields import (
    MAY_CHANGE,
    key_variable,
    marks,
    named,
    one_of,
    password_shown,
    ruled,
    shows_password,
    with_marks,
)
from ajet.engine.base import Engine, EngineConfig, EngineNeeds
from ajet.errors import ConfigError

if TYPE_CHECKING:
    from ajet.engine.tinker_engine import TinkerEngine

SCHEMES = ("http://", "https://")
THE_SERVICE = "Thinking Machines"


@dataclass
class TinkerConfig:
    """The `tinker` section: which server, and how long to wait for it. Only `hardware=tinker` reads it."""

    base_url: str | None = field(default=None, metadata=marks(MAY_CHANGE))
    """The server, e.g. `http://my-skyrl:8000`; null: Thinking Machines' service, or `TINKER_BASE_URL`."""
    api_key_env: str | None = with_marks(key_variable(sent_to="base_url"), MAY_CHANGE)
    """The environment variable that holds the key; a server of one's own may do without it."""
    base_model: str | None = field(default=None, metadata=marks(MAY_CHANGE))
    """What the server calls the model; null: `model.path`."""
    timeout_s: float = with_marks(ruled(600.0, above=0), MAY_CHANGE)
    """The longest wait for any one answer; then the run ends, its state being what was saved."""
    normalization: str = one_of("measured", "measured", "token_sum", "sequence_mean")
    """How the server adds up the losses of tokens: `token_sum`, or `sequence_mean`, a mean over sequences of means over
    positions. `measured` takes a few steps of a model that is dropped again, before the first step."""
    loss: str = one_of("auto", "auto", "linearised")
    """How the loss gets there: `linearised` asks for log-probabilities and sends the slopes of any loss; `auto` lets
    the server compute its own `ppo` or `cispo` where that is exactly the loss of the run, and a probe before the first
    step finds that the server does: a forward pass less a step."""
    max_logprob_gap: float | None = with_marks(ruled(None, above=0), MAY_CHANGE)
    """Before the first step: how far, in the mean over tokens, the server's log-probabilities in training may be from
    those that it sampled with. Null: 1e-4 with `model.dtype=float32`, 1e-3 with bfloat16."""

    @property
    def place(self) -> str:
        """Where the server is, as sentences say it: its URL, or whose service is meant where none is named."""
        return self.base_url or os.environ.get("TINKER_BASE_URL") or THE_SERVICE

    @property
    def key_name(self) -> str:
        """The environment variable that a key is looked for in."""
        return self.api_key_env or "TINKER_API_KEY"

    def no_key(self) -> ConfigError:
        """What is said where the service would ask for a key and there is none."""
        return ConfigError(
            f"no key for the Tinker service: export {self.key_name}=..., or name a server of your own by "
            "tinker.base_url"
        )


@dataclass
class MovedServerConfig:
    """Where the server of finished runs is now, of the section `tinker`; null: as each run had it."""

    base_url: str | None = None
    """The server's address now; it must have what the run has saved there."""
    api_key_env: str | None = None
    """The environment variable that holds its key."""
    base_model: str | None = None
    """What it calls the model that training started from."""
    timeout_s: float | None = ruled(None, above=0)
    """The longest wait for any one answer."""

    def applied_to(self, settings: TinkerConfig) -> TinkerConfig:
        """A run's settings with what is named here."""
        named_here = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(settings, **named_here)


@dataclass
class TinkerEngineConfig(EngineConfig):
    """A server that speaks the Tinker API: it samples and trains, agents and games stay here."""

    name: str = named("tinker")
    service: TinkerConfig = field(default_factory=TinkerConfig)
    """The `tinker` section."""
    max_concurrency: int = ruled(64, at_least=1)
    """Most requests at once; further ones wait here."""
    episode_timeout_s: float | None = ruled(None, above=0)
    """`rollout.timeout_s`: a server that answers nobody for so long lets no episode be finished, and ends the run."""

    needs_extras: ClassVar[tuple[str, ...]] = ("tinker",)
    samples_meanwhile: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    @override
    def build(self, needs: EngineNeeds) -> TinkerEngine:
        from ajet.engine.tinker_engine import TinkerEngine

        return TinkerEngine(self, needs.model_path, max_context=needs.max_context)

    @override
    def held_up_s(self, engine: Engine) -> Callable[[], float]:
        from ajet.engine.tinker_engine import TinkerEngine

        assert isinstance(engine, TinkerEngine)
        work = engine.service.other_work
        return lambda: work.seconds

    @override
    def check(self, *, device: str, temperature: float) -> None:
        if temperature != 1:
            raise ConfigError(
                f"rollout.temperature={temperature:g}: a Tinker server gives log-probabilities of temperature 1 "
                "whatever it samples at, so that nothing else can be trained on: set rollout.temperature=1"
            )
        url = self.service.base_url
        if url is not None and not url.startswith(SCHEMES):
            shown = url.rpartition("@")[2]  # what stands before it may be a password
            raise ConfigError(f"tinker.base_url={shown} must be a URL, e.g. http://my-skyrl:8000")
        if shows_password(self.service.place):
            raise ConfigError(password_shown("TINKER_BASE_URL"))

    @override
    def check_key(self) -> None:
        if self.service.place == THE_SERVICE and not os.environ.get(self.service.key_name):
            raise self.service.no_key()
