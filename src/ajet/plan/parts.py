"""What a run holds in memory, part by part, from counts alone.

In: the counts of a model (`ModelShape`) and the settings that decide memory (`Setup`). Out: a `MemoryPlan`: parts in
GiB, the phases in which each is held, and their sum by phase. Left out: where counts come from (`shapes`), what the
machine has (`machine`), and data, which is small beside a model. docs/plan.md tells how good it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

PHASES = ("rollout", "update", "sync")
"""Of a step, where memory has its peaks: playing, updating, publishing weights (`memory/peak_<phase>`)."""
AFTER_UPDATE = ("rollout", "sync")
GIB = 2**30
FLOAT32 = 4
MOMENTS = 2
"""Tensors that Adam keeps of each trained number."""

ENGINES = ("vllm", "transformers")
"""Those that hold a model in this process."""
LIBRARIES_GIB, VLLM_GIB = 0.6, 0.2
"""Python, torch and AgentScope on the CPU, and vLLM's library (measured, docs/plan.md)."""
CUDA_CONTEXT_GIB = 0.5
"""What CUDA and its libraries take of a GPU; not measured by ajet."""
LOGITS_AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 26}
"""As `ajet.train.head.PIECE` and `PIECE_ON_GPU`: logits that exist at once while a pack is scored."""
LOGIT_COPIES = 4
"""Tensors of the logits' size at the peak of log-softmax and its gradient."""
AUTOCAST_SHARE = 0.67
"""Of what float32 keeps for backward, with `hardware.mixed_precision=bf16`: the residual stream and norms stay float32
(counted on SmolLM2)."""
NOT_REUSED = 0.45
"""Of activations, on the CPU: what malloc cannot use again for the next pack, and oneDNN's copies (fitted to two runs,
docs/plan.md)."""
KEPT_BY_MALLOC = 0.7
"""Of what an update frees, on the CPU: what the process still holds while it plays and publishes (likewise)."""
SAMPLING_COPIES = 6
"""Tensors of [sequences, vocabulary] in float32 while an engine draws a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model as memory sees it.

    Example: SmolLM2-135M has 134.5 million parameters, of them 28.3 million in a head that is tied to its embedding,
    30 layers of width 576, and keeps 1.4 MB a token for backward.
    """

    num_parameters: int
    """Of the plain model, tied ones once."""
    num_adapter_parameters: int
    """Of its adapters; 0 where all weights are trained."""
    num_adapted_parameters: int
    """Of the layers beneath adapters."""
    num_head_parameters: int
    """Of the output head: vocabulary times width."""
    is_tied: bool
    """Whether the head is the embedding."""
    vocabulary: int
    width: int
    """Of the residual stream."""
    widest: int
    """Of what a linear layer below the head takes or gives."""
    num_layers: int
    kept_per_token: int | None
    """Bytes that autograd keeps of a token from forward to backward, in the number format of the weights; None where
    the model could not be asked."""
    kv_per_token: int
    """Numbers in a token's keys and values, of all layers."""

    @property
    def num_trained(self) -> int:
        """Parameters that have gradients and moments."""
        return self.num_adapter_parameters or self.num_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The settings that decide memory; each is named as in the configuration where it is one of it."""

    device: str
    engine: str
    """`engine.name`."""
    dtype_bytes: int
    """Of `model.dtype`: the engine's, and of weights that are not trained."""
    kv_cache_gib: float | None
    gpu_memory_utilization: float | None
    gpu_memory_gib: float | None
    """Of the GPU, where there is one to ask."""
    num_sequences: int
    """Replies sampled at once, at most."""
    max_context: int
    num_engines: int
    """Two where a frozen opponent plays on an engine of its own."""
    engine_sleeps: bool
    """Whether the engine frees its share of the GPU while the policy is trained."""
    merges_adapters: bool
    """Whether adapters are added up into the engine's weights."""
    has_reference: bool
    """Whether a second model is kept for a KL penalty."""
    mixed_precision: bool
    gradient_checkpointing: bool
    offload_optimizer: bool = False
    pack_tokens: int
    """Of the largest pack."""
    num_shards: int
    """Processes that the weights in training are shared out among, with `hardware.data_parallel=fsdp`; else 1."""
    branching_tokens: int
    """Of the largest pack that branches: `algorithm.max_pack_tokens` at most."""
    blocks_from: int | None = None
    """Tokens from which on a branching pack goes by FlexAttention, which needs no mask; None for never."""

    def with_pack(self, num_tokens: int) -> Self:
        """The same for a run whose largest pack is known."""
        branching = min(num_tokens, self.branching_tokens)
        return replace(self, pack_tokens=num_tokens, branching_tokens=branching)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that takes memory."""

    name: str
    gib: float
    phases: tuple[str, ...] = PHASES
    """In which it is held."""
    is_certain: bool = True
    """Whether it is counted and not estimated: what no run of these settings can do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """All parts of one process, on the device that the run uses."""

    parts: tuple[Part, ...]

    def peak_gib(self, phase: str) -> float:
        """What is held at once in a phase."""
        return _sum(part for part in self.parts if phase in part.phases)

    @property
    def largest_gib(self) -> float:
        """The most that is held in any phase."""
        return max(map(self.peak_gib, PHASES))

    @property
    def certain_gib(self) -> float:
        """The most that is held in any phase of what is counted, without estimates."""
        return max(_sum(part for part in self.parts if phase in part.phases and part.is_certain) for phase in PHASES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What a plan is computed from, as it lies in a run's `plan.json`."""

    shape: ModelShape
    setup: Setup

    def plan(self) -> MemoryPlan:
        """The memory of these settings."""
        return memory_plan(self.shape, self.setup)

    def with_pack(self, num_tokens: int) -> Self:
        """The same for a run whose largest pack is known."""
        return replace(self, setup=self.setup.with_pack(num_tokens))

    def to_json(self) -> dict[str, Any]:
        """Plain values: what it is computed from, and what comes of it."""
        plan = self.plan()
        return {
            "peak_gib": {phase: plan.peak_gib(phase) for phase in PHASES},
            "parts": [asdict(part) for part in plan.parts],
            **asdict(self),
        }


def sizing_from_json(content: dict[str, Any]) -> Sizing:
    """What `Sizing.to_json` wrote; KeyError or TypeError where it is something else."""
    return Sizing(shape=ModelShape(**content["shape"]), setup=Setup(**content["setup"]))


def memory_plan(shape: ModelShape, setup: Setup) -> MemoryPlan:
    """What one process holds on its device."""
    parts = [_libraries(setup), *_training(shape, setup), *_update(shape, setup)]
    parts += [*_engine(shape, setup), *_publishing(shape, setup)]
    if setup.device == "cpu":
        freed = KEPT_BY_MALLOC * _sum(part for part in parts if part.phases == ("update",))
        parts.append(Part(name="freed by the update, and kept", gib=freed, phases=AFTER_UPDATE, is_certain=False))
    return MemoryPlan(parts=tuple(part for part in parts if part.gib > 0))


def planned_words(planned_gib: float, measured_gib: float, largest_pack: int) -> str:
    """What a run's largest peak was, against its plan."""
    off = (measured_gib - planned_gib) / planned_gib if planned_gib else 0.0
    return (
        f"memory: {measured_gib:.1f} GiB at most, where {planned_gib:.1f} were planned for its largest pack of "
        f"{largest_pack:,} tokens ({off:+.0%})"
    )


def _libraries(setup: Setup) -> Part:
    if setup.device == "cuda":
        return Part(name="CUDA context", gib=CUDA_CONTEXT_GIB, is_certain=False)
    gib = LIBRARIES_GIB + (VLLM_GIB if setup.engine == "vllm" else 0.0)
    return Part(name="Python and libraries", gib=gib, is_certain=False)


def _training(shape: ModelShape, setup: Setup) -> Iterable[Part]:
    """What stays from step to step, and gradients."""
    plain = shape.num_parameters * (setup.dtype_bytes if shape.num_adapter_parameters else FLOAT32)
    mine = 1 / setup.num_shards
    yield _part("training: weights", mine * (plain + shape.num_adapter_parameters * FLOAT32))
    yield _part("training: gradients", mine * shape.num_trained * FLOAT32, phases=("update",))
    if not setup.offload_optimizer:
        yield _part("training: Adam's moments", mine * MOMENTS * shape.num_trained * FLOAT32)
    if setup.has_reference:
        yield _part("training: reference model", mine * shape.num_parameters * setup.dtype_bytes)
    if setup.num_shards > 1:
        below = (shape.num_parameters - shape.num_head_parameters) / shape.num_layers
        gathered = (shape.num_head_parameters + below) * FLOAT32
        yield _part("update: a layer's weights, gathered", gathered, phases=("update",), is_certain=False)


def _update(shape: ModelShape, setup: Setup) -> Iterable[Part]:
    """What a forward and backward pass holds besides."""
    held = activation_bytes(shape, setup)
    yield _part("update: activations of a pack", held, phases=("update",), is_certain=False)
    logits = min(setup.pack_tokens * shape.vocabulary, max(LOGITS_AT_ONCE[setup.device], shape.vocabulary))
    in_flight = 0 if shape.num_adapter_parameters else shape.num_head_parameters
    head = (LOGIT_COPIES * logits + in_flight) * FLOAT32
    yield _part("update: logits and the head's gradient", head, phases=("update",), is_certain=False)
    if _computes_lower(shape, setup):
        copies = (shape.num_parameters - shape.num_head_parameters) * FLOAT32 // 2
        yield _part("update: weights in bf16", copies, phases=("update",), is_certain=False)
    if setup.device == "cpu":
        yield _part("update: freed and not reused", held * NOT_REUSED, phases=("update",), is_certain=False)


def _computes_lower(shape: ModelShape, setup: Setup) -> bool:
    """Whether float32 weights are computed with in bf16; below adapters they may be bf16 themselves, and counted so."""
    return setup.mixed_precision and (not shape.num_adapter_parameters or setup.dtype_bytes == FLOAT32)


def activation_bytes(shape: ModelShape, setup: Setup) -> float:
    """What the forward pass of the largest pack keeps for backward: of each token, and a mask a layer where it
    branches and does without FlexAttention. The largest pack that has a mask may be smaller than the largest one, or
    than the longest row; the larger of the two counts."""
    branching = setup.branching_tokens
    masked = branching if setup.blocks_from is None else min(branching, setup.blocks_from - 1)
    return max(_kept(shape, setup, setup.pack_tokens, 0), _kept(shape, setup, masked, masked))


def _kept(shape: ModelShape, setup: Setup, num_tokens: int, masked: int) -> float:
    share = AUTOCAST_SHARE if _computes_lower(shape, setup) else 1.0
    of_layers = (shape.kept_per_token or 0) * share * num_tokens + masked**2 * FLOAT32 * shape.num_layers
    if not setup.gradient_checkpointing:
        return of_layers
    # Each layer's input, and one layer at a time.
    return of_layers / shape.num_layers + shape.num_layers * shape.width * FLOAT32 * num_tokens


def _engine(shape: ModelShape, setup: Setup) -> Iterable[Part]:
    """What samples: weights, keys and values, and what a step of it computes with; of an engine of the user's nothing
    is known."""
    if setup.engine not in ENGINES:
        return
    times = setup.num_engines
    if setup.device == "cuda" and setup.engine == "vllm" and setup.gpu_memory_gib is not None:
        # It takes this share at its start, whatever it needs of it.
        share = (setup.gpu_memory_utilization or 0.0) * setup.gpu_memory_gib * GIB
        yield _part(
            "engine: its share of the GPU", times * share, phases=AFTER_UPDATE if setup.engine_sleeps else PHASES
        )
        return
    # vLLM's kernels for the CPU multiply by a copy of a tied head of their own.
    copied = shape.num_head_parameters if shape.is_tied and (setup.engine, setup.device) == ("vllm", "cpu") else 0
    yield _part("engine: weights", times * (shape.num_parameters + copied) * setup.dtype_bytes)
    if setup.kv_cache_gib is not None:
        yield _part("engine: KV cache", times * setup.kv_cache_gib * GIB)
    elif setup.engine == "transformers":
        held = setup.num_sequences * min(setup.max_context, setup.pack_tokens) * shape.kv_per_token * setup.dtype_bytes
        yield _part("engine: KV cache", times * held, phases=("rollout",), is_certain=False)
    drawn = SAMPLING_COPIES * setup.num_sequences * shape.vocabulary * FLOAT32
    prompts = setup.max_context * (4 * shape.width + 3 * shape.widest) * setup.dtype_bytes
    yield _part("engine: a sampling step", times * (drawn + prompts), is_certain=False)


def _publishing(shape: ModelShape, setup: Setup) -> Iterable[Part]:
    """Merging adapters makes every adapted layer anew, and the sum that goes into it (`ajet.train.lora`)."""
    # On the CPU it is freed into gaps that the next update is too large for.
    phases = PHASES if setup.device == "cpu" else ("sync",)
    if shape.num_adapter_parameters and setup.merges_adapters:
        merged = shape.num_adapted_parameters * (FLOAT32 + max(FLOAT32, setup.dtype_bytes))
        yield _part("publishing: merged layers", merged, phases=phases, is_certain=False)
    if setup.num_shards > 1 and setup.merges_adapters:
        together = shape.num_parameters * FLOAT32
        yield _part("publishing: weights put together", together, phases=phases, is_certain=False)
    if setup.engine in ENGINES:
        loaded = (
            shape.num_head_parameters if setup.merges_adapters else shape.num_adapter_parameters
        ) * setup.dtype_bytes
        yield _part("publishing: a layer on its way", loaded, phases=phases, is_certain=False)


def _part(name: str, num_bytes: float, *, phases: tuple[str, ...] = PHASES, is_certain: bool = True) -> Part:
    return Part(name=name, gib=num_bytes / GIB, phases=phases, is_certain=is_certain)


def _sum(parts: Iterable[Part]) -> float:
    return sum(part.gib for part in parts)
