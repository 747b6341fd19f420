"""The contract that every sampling engine keeps, and what their configurations share.

In: prompt ids and sampling settings. Out: a `Completion`. Text, chat templates and agents are unknown here.
`tests/engine_contract.py` holds all engines to the contract. An engine is a class and a subclass of `EngineConfig`
beside it, which has its settings and builds it; the command line finds it by the name in that subclass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ajet.config.component import construct
from ajet.config.fields import needed
from ajet.errors import ContextOverflowError, EngineError
from ajet.records import Completion

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Low-rank adapters, before there are any: their shape, and which layers have them.

    Example: rank=8, alpha=16, targets=("q_proj", "v_proj").
    """

    rank: int
    alpha: float
    """What they add is scaled by alpha / rank."""
    targets: tuple[str, ...]
    """Names of linear layers, or the ends of names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNeeds:
    """What an engine is told of the run, beside its own settings."""

    model_path: str
    """A Hugging Face checkpoint directory or hub id."""
    max_context: int
    """Most tokens of prompt and completion together."""
    dtype: str
    """Number format of the weights, a torch dtype's name."""
    device: str
    """`cpu` or `cuda`."""
    num_threads: int | None
    """CPU threads while sampling; None for every core."""
    adapters: Adapters | None = None
    """What `update_weights` will bring instead of whole weights; only where the engine wants and can take them."""
    grammars: bool = False
    """Whether requests may bring one; only where the engine follows them."""


@dataclass
class EngineConfig:
    """The engine group. The chosen engine's subclass has its own settings."""

    name: str = needed()
    """The engine's name, e.g. `vllm`: what `engine=` chooses."""

    needs_extras: ClassVar[tuple[str, ...]] = ()
    """Extras of the installation, of which it needs one (`ajet.errors.EXTRAS`)."""
    samples_meanwhile: ClassVar[bool] = False
    """Whether it samples while this process computes something else, and weights may change while it does."""
    trains: ClassVar[bool] = False
    """Whether the policy is trained where it is sampled, and not in this process."""
    follows_grammars: ClassVar[bool] = False
    """Whether it can sample under a request's grammar, if it was built with `grammars`."""
    component: ClassVar[Any] = None
    """The engine's class where a user wrote it (docs/extend/engine.md)."""

    @property
    def wants_adapters(self) -> bool:
        """Whether it takes adapters as they are, beside the starting model's weights, with which it samples as well;
        else added up into whole weights."""
        return False

    def why_merged(self, adapters: Adapters) -> str | None:
        """Why it cannot take such adapters though it wants them, in words; None where it can."""
        return None

    def build(self, needs: EngineNeeds) -> Engine:
        """The engine with the model's weights in it; loads it.

        Raises:
            ConfigError: the checkpoint cannot be loaded.
        """
        engine: Engine = construct(
            self,
            f"engine={self.name}",
            model_path=needs.model_path,
            max_context=needs.max_context,
            dtype=needs.dtype,
            device=needs.device,
            num_threads=needs.num_threads,
        )
        return engine

    def sleeper(self, engine: Engine) -> Callable[[], None]:
        """What frees an engine's memory while this process trains; `update_weights` wakes it. Nothing, unless it can.

        Args:
            engine: built from these settings.
        """
        return lambda: None

    def held_up_s(self, engine: Engine) -> Callable[[], float]:
        """What tells for how many seconds so far requests may have waited for training, which is no episode's fault;
        their deadline moves by them. None at all, unless the engine trains where it samples and does both meanwhile.

        Args:
            engine: built from these settings.
        """
        return lambda: 0.0

    def check(self, *, device: str, temperature: float) -> None:
        """Refuse settings that cannot work together, on this device or at this temperature.

        Raises:
            ConfigError: what to change.
        """

    def check_key(self) -> None:
        """Refuse to start without the key that the engine's server will ask for.

        Raises:
            ConfigError: what to export.
        """

    def check_second(self, *, opponent: str) -> None:
        """Refuse what a second engine with these settings, an opponent's, would share with the first.

        Raises:
            ConfigError: what to change.
        """

    def check_gpus(self, num_gpus: int) -> None:
        """Refuse more GPUs than the machine has.

        Raises:
            ConfigError: what to change.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRequest:
    """One prompt to continue by temperature sampling; nothing but a grammar changes the distribution."""

    prompt_ids: tuple[int, ...]
    """At least one id."""
    max_tokens: int
    """Most ids to sample; cut down to what the context has room for."""
    temperature: float
    """> 0; logits are divided by it before the softmax."""
    seed: int
    """Of this request alone: the same seed, prompt and weights give the same ids, whatever else runs.
    Any integer; taken modulo 2**63."""
    stop_ids: tuple[int, ...] = ()
    """Sampling one of these ends the completion; the id is kept as the last one."""
    by_starting_model: bool = False
    """Whether the model that training started from samples, and not the policy: what an engine can that takes adapters,
    and any other whose weights were never changed. Its policy version is 0."""
    grammar: str = ""
    """xgrammar's structural tag: ids that it does not allow next have probability 0, and log-probabilities are those of
    what is left. Empty for none; only engines that follow grammars get one."""

    def __post_init__(self) -> None:
        assert self.prompt_ids and self.max_tokens >= 1 and self.temperature > 0, self

    def budget(self, max_context: int) -> int:
        """How many ids may be sampled: `max_tokens`, or the room that the prompt leaves if that is less.

        Raises:
            ContextOverflowError: the prompt alone fills the context.
        """
        room = max_context - len(self.prompt_ids)
        if room <= 0:
            raise ContextOverflowError(
                f"a prompt of {len(self.prompt_ids)} tokens leaves no room in a context of {max_context}: "
                "shorten the conversation or raise model.max_context"
            )
        return min(self.max_tokens, room)


class Engine(Protocol):
    """A model that samples. One in this process runs on the caller's event loop, so that scheduling is reproducible."""

    max_context: int
    """Most tokens of prompt and completion together."""
    policy_version: int
    """Number of weight updates so far."""

    async def generate(self, request: SamplingRequest) -> Completion:
        """Sample a completion. Many calls may wait at once; they are batched.

        Cancelling the caller aborts the request.

        Raises:
            ContextOverflowError: the prompt alone fills the context.
            EngineError: the engine failed; an `EngineLostError` where it will for every request, which ends the run.
        """
        ...

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], policy_version: int) -> None:
        """Put new weights in place, by Hugging Face parameter name, and forget cached prefixes. An engine that was
        built for adapters takes these alone, by peft's names.

        Must not be called while requests are running, unless the engine samples meanwhile (`EngineConfig`).
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. A closed engine is not used again."""
        ...


def checked_weights(weights: Iterable[tuple[str, Tensor]], model: Module) -> Iterator[tuple[str, Tensor]]:
    """What `update_weights` was given, checked against the model that it is meant for: each parameter once, detached.

    A forgotten or misnamed weight is an error here; engines would keep the old one without a word. A tied parameter may
    come under any of its names; its first goes out.

    Raises:
        EngineError: an unknown name, another shape, or, at the end, parameters that did not come.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # By the parameter itself, as in torch's optimizers: tied names are one parameter.
    expected = {parameter: name for name, parameter in model.named_parameters()}
    for name, tensor in weights:
        if name not in parameters:
            raise EngineError(f"the model has no parameter {name!r}")
        parameter = parameters[name]
        if tensor.shape != parameter.shape:
            raise EngineError(f"{name} has shape {tuple(parameter.shape)}, not {tuple(tensor.shape)}")
        if first_name := expected.pop(parameter, None):
            yield first_name, tensor.detach()
    if expected:
        raise EngineError(f"the update lacks the weights of {sorted(expected.values())}")
