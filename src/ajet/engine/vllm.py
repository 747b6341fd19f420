"""vLLM inside this process, stepped by hand: the engine that rollouts use, on the CPU or on GPUs.

In: sampling requests. Out: completions, with vLLM's own log-probabilities after temperature. Prefixes are
cached until the weights change. Left out on purpose: text (no tokenizer is loaded), sampling filters,
and vLLM's server and worker processes, whose timing would make batches differ from run to run.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ajet.config.fields import named, ruled
from ajet.engine.base import EngineConfig, SamplingRequest, checked_weights
from ajet.engine.stepped import SteppedEngine, torch_threads
from ajet.errors import ConfigError, EngineError
from ajet.records import Completion, FinishReason

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from vllm.engine.arg_utils import EngineArgs

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 2.0
"""Below, vLLM would sample at 0.01 or greedily without a word: not what was asked for. Above, it refuses."""

CPU_BATCHED_TOKENS = 4096
"""Default of `max_batched_tokens` on the CPU."""

PROCESS_SETTINGS = {
    # In process: weights are handed over by reference, steps are ours.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
PROCESS_DEFAULTS = {
    # Its warnings on the CPU are about kernels and preloaded libraries that no user can act upon.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
ENGINE_SETTINGS: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "generation_config": "vllm",  # else the checkpoint's top-p and top-k would be applied
    "logprobs_mode": "processed_logprobs",  # after temperature
    "enable_prefix_caching": True,
    "disable_log_stats": True,
    "use_tqdm_on_load": False,
}
"""What no caller may choose otherwise."""


@dataclass
class VllmConfig(EngineConfig):
    """vLLM in process, by default as it fits a CPU; `engine=vllm_gpu` is the same engine as it fits a GPU."""

    name: str = named("vllm")
    max_concurrency: int = ruled(128, at_least=1)
    """Most requests sampled in one batch; further ones wait inside vLLM."""
    kv_cache_gib: float | None = ruled(1.0, above=0)
    """On the CPU: memory for the KV cache, GiB. Null on a GPU, where `gpu_memory_utilization` says it."""
    block_size: int | None = ruled(32, at_least=1)
    """Tokens in a KV block; smaller blocks reuse more of a shared prefix. Null: vLLM's choice."""
    gpu_memory_utilization: float | None = ruled(None, above=0, below=1)
    """On a GPU: share of its memory for weights and KV cache; the rest is for training."""
    tensor_parallel_size: int | None = ruled(None, at_least=1)
    """On GPUs: devices that one copy of the model is spread over; more than one starts worker processes."""
    enforce_eager: bool = True
    """Skip compilation and CUDA graphs, for a quick start."""

    needs_extras: ClassVar[tuple[str, ...]] = ("cpu", "gpu")

    @override
    def build(
        self, *, model_path: str, max_context: int, dtype: str, device: str, num_threads: int | None
    ) -> VllmEngine:
        """vLLM finds its device itself."""
        return VllmEngine(self, model_path, max_context=max_context, dtype=dtype, num_threads=num_threads)

    @override
    def check(self, *, device: str, temperature: float) -> None:
        # vLLM takes a lower one for .01, with a warning, while the trainer would divide by the one that was asked for.
        if temperature < MIN_TEMPERATURE:
            raise ConfigError(
                f"rollout.temperature={temperature:g} is below what engine=vllm can sample at: choose at least "
                f"{MIN_TEMPERATURE:g}"
            )
        if device == "cpu":
            self._check_on_cpu()
        else:
            self._check_on_gpu()

    @override
    def check_gpus(self, num_gpus: int) -> None:
        wanted = self.tensor_parallel_size or 1
        if wanted > num_gpus:
            raise ConfigError(
                f"engine.tensor_parallel_size={wanted} needs {wanted} GPUs, but this machine has {num_gpus}: "
                f"set engine.tensor_parallel_size={num_gpus}"
            )

    def _check_on_cpu(self) -> None:
        for setting in ("gpu_memory_utilization", "tensor_parallel_size"):
            if getattr(self, setting) is not None:
                raise ConfigError(
                    f"engine.{setting} has no effect with hardware.device=cpu: choose engine=vllm or hardware=gpu1"
                )
        if self.kv_cache_gib is None:
            raise ConfigError("engine=vllm on the CPU needs engine.kv_cache_gib, e.g. 1")

    def _check_on_gpu(self) -> None:
        if self.kv_cache_gib is not None:
            raise ConfigError(
                "engine.kv_cache_gib has no effect with hardware.device=cuda: choose engine=vllm_gpu, "
                "which takes engine.gpu_memory_utilization"
            )
        if self.gpu_memory_utilization is None:
            raise ConfigError("engine=vllm on a GPU needs engine.gpu_memory_utilization, e.g. 0.4")


class VllmEngine(SteppedEngine):
    """A vLLM engine in this process; several may live side by side.

    Args:
        config: the engine's settings.
        model_path: a Hugging Face checkpoint directory or hub id; its tokenizer is not read.
        max_context: most tokens of prompt and completion together.
        dtype: of weights, activations and KV cache.
        num_threads: torch threads while stepping; None keeps the caller's.
        max_batched_tokens: most prompt and decode tokens in one step; None for vLLM's own.
    """

    def __init__(
        self,
        config: VllmConfig,
        model_path: str,
        *,
        max_context: int,
        dtype: str = "float32",
        num_threads: int | None = None,
        max_batched_tokens: int | None = None,
    ) -> None:
        super().__init__(max_context=max_context, num_threads=num_threads)
        _prepare_process()
        from vllm import SamplingParams
        from vllm.engine.arg_utils import EngineArgs
        from vllm.inputs import tokens_input
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind

        self._sampling_params = SamplingParams
        self._final_only = RequestOutputKind.FINAL_ONLY
        self._tokens_input = tokens_input
        self._num_devices = config.tensor_parallel_size or 1
        self._on_cpu: bool = current_platform.is_cpu()
        if self._on_cpu:
            # vLLM steps a seeded generator back after part of a prompt, which CPU generators cannot do;
            # so prompts are not cut there, and a step must hold the longest.
            max_batched_tokens = max(max_batched_tokens or CPU_BATCHED_TOKENS, max_context)
        self._llm = _start(
            EngineArgs(
                model=model_path,
                max_model_len=max_context,
                max_num_seqs=config.max_concurrency,
                max_num_batched_tokens=max_batched_tokens,
                enable_chunked_prefill=False if self._on_cpu else None,
                dtype=dtype,
                seed=0,  # every request brings its own
                enforce_eager=config.enforce_eager,
                block_size=config.block_size,
                kv_cache_memory_bytes=None if config.kv_cache_gib is None else int(config.kv_cache_gib * 2**30),
                # Read only where the KV cache's size is not given.
                gpu_memory_utilization=config.gpu_memory_utilization or 0.5,
                tensor_parallel_size=self._num_devices,
                distributed_executor_backend="uni" if self._num_devices == 1 else "mp",
                **ENGINE_SETTINGS,
            ),
            num_threads,
        )
        self._vocab_size: int = self._llm.model_config.get_vocab_size()

    @cached_property
    def _parameters(self) -> Module:
        """The model as transformers has it, without storage: vLLM fuses parameters and renames them."""
        import torch
        from transformers import AutoModelForCausalLM

        auto_model: Any = AutoModelForCausalLM  # untyped
        with torch.device("meta"):
            model: Module = auto_model.from_config(self._llm.model_config.hf_config)
        return model

    def _load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        checked = checked_weights(weights, self._parameters)
        if self._num_devices > 1:
            # Worker processes get them pickled.
            checked = iter([(name, tensor.cpu()) for name, tensor in checked])
        with torch_threads(self._num_threads):
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": checked})
            if self._on_cpu:
                self._llm.apply_model(_repack_tied_output_layer)
        if not self._llm.reset_prefix_cache():
            raise EngineError("vLLM kept cached prefixes of the old weights; was a request still running?")

    def close(self) -> None:
        """Free the model and its cache; torch.distributed stays up for other engines and the trainer."""
        super().close()
        core = self._llm.engine_core.engine_core
        core.model_executor.shutdown()
        core.scheduler.shutdown()

    def _add(self, key: int, request: SamplingRequest, max_tokens: int) -> None:
        if not MIN_TEMPERATURE <= request.temperature <= MAX_TEMPERATURE:
            raise EngineError(
                f"vLLM samples at temperatures from {MIN_TEMPERATURE} to {MAX_TEMPERATURE}, "
                f"not at {request.temperature}"
            )
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < self._vocab_size:
            raise EngineError(f"the prompt has a token id outside the vocabulary of {self._vocab_size}")
        params = self._sampling_params(
            temperature=request.temperature,
            max_tokens=max_tokens,
            seed=request.seed % 2**63,
            stop_token_ids=list(request.stop_ids),
            ignore_eos=True,  # the request's stop ids are the only ones
            logprobs=0,  # of the sampled id alone
            flat_logprobs=True,
            detokenize=False,
            output_kind=self._final_only,
            skip_clone=True,
        )
        self._llm.add_request(str(key), self._tokens_input(list(request.prompt_ids)), params)

    def _step(self) -> list[tuple[int, Completion]]:
        return [
            (int(output.request_id), self._completion(output.outputs[0]))
            for output in self._llm.step()
            if output.finished
        ]

    def _completion(self, output: Any) -> Completion:
        finish_reasons: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
        if output.finish_reason not in finish_reasons:
            raise EngineError(f"vLLM ended a request with {output.finish_reason!r}")
        return Completion(
            token_ids=tuple(output.token_ids),
            logprobs=tuple(output.logprobs.logprobs),
            finish_reason=finish_reasons[output.finish_reason],
            policy_version=self.policy_version,
        )

    def _abort(self, key: int) -> None:
        self._llm.abort_request([str(key)])


def _repack_tied_output_layer(model: Module) -> None:
    """Let the output layer see new weights that it shares with the embedding.

    vLLM's CPU kernels multiply by a packed copy of a weight. Reloading packs each layer that weights are
    loaded into; a tied output layer gets its weights through the embedding and would keep its old copy.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            assert isinstance(module.quant_method, UnquantizedEmbeddingMethod), module.quant_method
            module.quant_method.process_weights_after_loading(module)


def _prepare_process() -> None:
    """What has to be set before vLLM is imported."""
    os.environ.update(PROCESS_SETTINGS)
    for name, value in PROCESS_DEFAULTS.items():
        os.environ.setdefault(name, value)
    # It only says that kernels for GPUs are absent on a CPU.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)


def _start(args: EngineArgs, num_threads: int | None) -> Any:
    """Load the model, and undo what vLLM does to the process that it runs in."""
    import torch
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    # vLLM's CPU worker replaces torch.set_num_threads by a function that does nothing, for good.
    set_num_threads, previous = torch.set_num_threads, torch.get_num_threads()
    torch.set_num_threads(previous if num_threads is None else num_threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about its own use of torch
            llm = LLMEngine.from_engine_args(args, usage_context=UsageContext.LLM_CLASS)
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(previous)
    # Collecting one engine would tear down torch.distributed under the other engines and the trainer.
    llm.engine_core._finalizer.detach()
    return llm
