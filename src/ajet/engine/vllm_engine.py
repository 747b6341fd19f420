"""vLLM inside this process, stepped by hand: the engine that rollouts use, on the CPU or on GPUs.

In: sampling requests. Out: completions, with vLLM's own log-probabilities after temperature. Prefixes are
cached until the weights change. Left out on purpose: text (a tokenizer is loaded for grammars alone), sampling filters,
and vLLM's server and worker processes, whose timing would make batches differ from run to run.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ajet.config.cli.ending import held_back
from ajet.engine.adapters import write_adapters
from ajet.engine.base import Adapters, SamplingRequest, checked_weights
from ajet.engine.server_process import memory_folder
from ajet.engine.stepped import SteppedEngine, torch_threads
from ajet.engine.vllm import VllmConfig
from ajet.engine.vllm_settings import PROCESS_DEFAULTS, engine_settings, parameters_of, sampling_settings
from ajet.errors import ConfigError, EngineError
from ajet.records import Completion, FinishReason

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.request import LoRARequest

PROCESS_SETTINGS = {
    # In process: weights are handed over by reference, steps are ours.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
NO_ADAPTERS = "does not support LoRA"
"""In vLLM's words."""


class VllmEngine(SteppedEngine):
    """A vLLM engine in this process; several may live side by side.

    Args:
        config: the engine's settings.
        model_path: a Hugging Face checkpoint directory or hub id; its tokenizer is read for grammars alone.
        max_context: most tokens of prompt and completion together.
        dtype: of weights, activations and KV cache.
        num_threads: torch threads while stepping; None keeps the caller's.
        max_batched_tokens: most prompt and decode tokens in one step; None for vLLM's own.
        adapters: what updates bring; None for whole weights.
        grammars: whether requests may bring one.

    Raises:
        ConfigError: vLLM has no adapters for such a model.
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
        adapters: Adapters | None = None,
        grammars: bool = False,
    ) -> None:
        super().__init__(max_context=max_context, num_threads=num_threads)
        _prepare_process()
        with held_back():
            from vllm import SamplingParams
            from vllm.engine.arg_utils import EngineArgs
            from vllm.inputs import tokens_input
            from vllm.platforms import current_platform
            from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._sampling_params = SamplingParams
        self._structured_outputs = StructuredOutputsParams
        self._final_only = RequestOutputKind.FINAL_ONLY
        self._tokens_input = tokens_input
        self._num_devices = config.tensor_parallel_size or 1
        self._on_cpu: bool = current_platform.is_cpu()
        settings = engine_settings(
            config,
            model_path,
            max_context=max_context,
            dtype=dtype,
            on_cpu=self._on_cpu,
            max_batched_tokens=max_batched_tokens,
            adapters=adapters,
            grammars=grammars,
        )
        self._sleep_level = config.sleep_level
        self._is_asleep = False
        settings["enable_sleep_mode"] = config.sleep_level is not None
        self._llm = _start(EngineArgs(**settings, use_tqdm_on_load=False), num_threads)
        if grammars:
            # Else a thread compiles them, and which requests meet in one batch differs from run to run.
            self._llm.engine_core.engine_core.structured_output_manager._use_async_grammar_compilation = False
        self._vocab_size: int = self._llm.model_config.get_vocab_size()
        self._adapters = adapters
        self._policy: LoRARequest | None = None
        """The adapters that the policy has now; None before the first update, when they add nothing."""
        self._num_updates = 0
        self._adapters_dir = None if adapters is None else Path(tempfile.mkdtemp("", "ajet-adapters-", memory_folder()))

    @cached_property
    def _parameters(self) -> Module:
        return parameters_of(self._llm.model_config.hf_config)

    def sleep(self) -> None:
        """Free memory on the GPU, cached prefixes included, until new weights come; no request may run or come. Nothing
        where that was done."""
        assert self._sleep_level is not None and not self._waiting
        if self._is_asleep:
            return
        self._llm.sleep(self._sleep_level)
        self._is_asleep = True

    def _load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        if self._is_asleep:
            self._llm.wake_up(tags=["weights"])
        if self._adapters is None:
            self._load_whole(weights)
        else:
            self._load_adapters(weights, self._adapters)
        if self._is_asleep:
            self._llm.wake_up()  # the rest: there was one more copy of the weights until now
            self._is_asleep = False

    def _load_adapters(self, weights: Iterable[tuple[str, Tensor]], adapters: Adapters) -> None:
        """Cached prefixes are kept under their adapter's name and path: what is new finds none."""
        from vllm.lora.request import LoRARequest

        assert self._adapters_dir is not None
        self._num_updates += 1
        number, old = self._num_updates, self._policy
        folder = self._adapters_dir / str(number)
        write_adapters(weights, adapters, self._parameters, folder)
        if old is not None:
            self._llm.remove_lora(old.lora_int_id)
            shutil.rmtree(old.lora_path)
        self._policy = LoRARequest(lora_name=f"policy-{number}", lora_int_id=number, lora_path=str(folder))
        self._llm.add_lora(self._policy)

    def _load_whole(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        checked = checked_weights(weights, self._parameters)
        if self._num_devices > 1:
            # Worker processes get them pickled.
            checked = iter([(name, tensor.cpu()) for name, tensor in checked])
        with torch_threads(self._num_threads):
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": checked})
            if self._on_cpu:
                self._llm.apply_model(repack_tied_output_layer)
        if not self._llm.reset_prefix_cache():
            raise EngineError("vLLM kept cached prefixes of the old weights; was a request still running?")

    def close(self) -> None:
        """Free the model and its cache; torch.distributed stays up for other engines and the trainer."""
        super().close()
        core = self._llm.engine_core.engine_core
        core.model_executor.shutdown()
        core.scheduler.shutdown()
        if self._adapters_dir is not None:
            shutil.rmtree(self._adapters_dir, ignore_errors=True)

    def _add(self, key: int, request: SamplingRequest, max_tokens: int) -> None:
        assert not self._is_asleep, "its weights are not there"
        settings = sampling_settings(request, max_tokens, vocab_size=self._vocab_size)
        if request.grammar:
            settings["structured_outputs"] = self._structured_outputs(structural_tag=request.grammar)
        params = self._sampling_params(**settings, flat_logprobs=True, output_kind=self._final_only, skip_clone=True)
        assert self._adapters is not None or self.policy_version == 0 or not request.by_starting_model, request
        adapter = None if request.by_starting_model else self._policy
        prompt = self._tokens_input(list(request.prompt_ids))
        self._llm.add_request(str(key), prompt, params, lora_request=adapter)

    def _step(self) -> list[tuple[int, Completion]]:
        return [
            (int(output.request_id), self._completion(output.outputs[0], output.lora_request))
            for output in self._llm.step()
            if output.finished
        ]

    def _completion(self, output: Any, adapter: LoRARequest | None) -> Completion:
        finish_reasons: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
        if output.finish_reason not in finish_reasons:
            raise EngineError(f"vLLM ended a request with {output.finish_reason!r}")
        return Completion(
            token_ids=tuple(output.token_ids),
            logprobs=tuple(output.logprobs.logprobs),
            finish_reason=finish_reasons[output.finish_reason],
            policy_version=0 if self._adapters is not None and adapter is None else self.policy_version,
        )

    def _abort(self, key: int) -> None:
        self._llm.abort_request([str(key)])


def repack_tied_output_layer(model: Module) -> None:
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
    """Load the model, and undo what vLLM does to the process that it runs in.

    Raises:
        ConfigError: adapters are wanted, and vLLM has none for such a model.
    """
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
    except ValueError as error:
        if NO_ADAPTERS not in str(error):
            raise
        raise ConfigError(f"engine.lora=adapters: {str(error).rstrip(chr(46))}; set engine.lora=merged") from error
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(previous)
    # Collecting one engine would tear down torch.distributed under the other engines and the trainer.
    llm.engine_core._finalizer.detach()
    return llm
