"""What ajet uses of other libraries that they do not promise to keep; docs/design.md shows this list.

`tests/unit/test_private_apis.py` holds it against the source: names with an underscore are found there, so that the
list can lack none of them; internals whose names do not say so are listed by hand.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateApi:
    """One thing that another library may change without a word, and who would notice."""

    names: tuple[str, ...]
    """As Python would import or reach them."""
    where: str
    """The module that uses it."""
    why: str
    """Why no public way serves."""
    test: str
    """A test that fails where it is gone."""


HERE = "tests/unit/test_private_apis.py::"
HYDRA = "tests/unit/test_hydra_private.py::"
VLLM = "tests/integration/test_engine_vllm.py::"
PRIVATE_APIS = (
    PrivateApi(
        names=("hydra._internal.utils.get_args_parser",),
        where="config/hydra_private.py",
        why="flags are told from overrides as Hydra does it, and are said once, by Hydra",
        test=HYDRA + "test_flags_and_overrides_are_told_apart",
    ),
    PrivateApi(
        names=("GlobalHydra.hydra.run", "GlobalHydra.hydra.multirun"),
        where="config/hydra_private.py",
        why="`hydra.main` takes its arguments from `sys.argv`, which belongs to the whole process",
        test=HYDRA + "test_a_job_runs_without_sys_argv_in_a_directory_with_hydras_record",
    ),
    PrivateApi(
        names=("GlobalHydra.set_instance", "HydraConfig.cfg", "JobRuntime.set", "VersionBase.version_base"),
        where="config/hydra_private.py",
        why="a program that is a Hydra application keeps its own state; `Singleton.get_state` copies no contents",
        test=HYDRA + "test_an_application_of_hydras_keeps_its_own_state",
    ),
    PrivateApi(
        names=("Ambiguous value",),
        where="config/hydra_private.py",
        why="how the message begins: the exception has no type of its own",
        test=HYDRA + "test_several_values_without_a_sweep_are_refused_in_words_that_we_know",
    ),
    PrivateApi(
        names=("openai.AsyncOpenAI._platform",),
        where="rollout/agents/openai_sdk.py",
        why="else the first request asks a thread for it, and which requests meet in one batch differs from run to run",
        test=HERE + "test_a_client_asks_no_thread_what_platform_it_is_on",
    ),
    PrivateApi(
        names=("agentscope.model._model_usage.ChatUsage",),
        where="rollout/agents/agentscope.py",
        why="the type of a public field (`ChatResponse.usage`) that is exported nowhere",
        test="tests/unit/test_agentscope_model.py::test_a_response_says_how_many_tokens_it_took",
    ),
    PrivateApi(
        names=("mcp.client.streamable_http.streamablehttp_client", "mcp.shared.exceptions.McpError"),
        where="rollout/agents/agentscope_names.py",
        why="AgentScope 1.0 imports two names that mcp 2 has renamed",
        test="tests/unit/test_agentscope_model.py::test_it_is_a_chat_model_that_does_not_stream",
    ),
    PrivateApi(
        names=("LLMEngine.engine_core._finalizer",),
        where="engine/vllm_engine.py",
        why="collecting one engine would tear down torch.distributed under the others and the trainer",
        test=VLLM + "test_a_second_engine_keeps_its_own_weights_and_closing_it_leaves_the_first_alone",
    ),
    PrivateApi(
        names=("engine_core.engine_core.model_executor", "engine_core.engine_core.scheduler"),
        where="engine/vllm_engine.py",
        why="`shutdown` of the engine itself does that, too",
        test=VLLM + "test_a_second_engine_keeps_its_own_weights_and_closing_it_leaves_the_first_alone",
    ),
    PrivateApi(
        names=("engine_core.engine_core.structured_output_manager._use_async_grammar_compilation",),
        where="engine/vllm_engine.py",
        why="else threads compile grammars, and which requests meet in one batch differs from run to run",
        test="tests/integration/test_grammars.py::test_grammars_are_compiled_before_a_request_joins_a_batch",
    ),
    PrivateApi(
        names=("ParallelLMHead.quant_method.process_weights_after_loading", "UnquantizedEmbeddingMethod"),
        where="engine/vllm_engine.py",
        why="`reload_weights` leaves the CPU's packed copy of a tied output layer as it was",
        test="tests/engine_contract.py::test_after_an_update_everything_comes_from_the_new_weights",
    ),
    PrivateApi(
        names=("torch._library.triton",),
        where="engine/vllm_engine.py",
        why="the logger's name: its one warning, about GPUs on a CPU, has no switch of its own",
        test=HERE + "test_the_logger_that_is_silenced_is_the_one_that_would_speak",
    ),
    PrivateApi(
        names=("torch.ops.mkldnn._linear_pointwise",),
        where="train/onednn.py",
        why="torch hands float32 products to MKL, and no setting sends them to oneDNN; without it plain layers train",
        test=HERE + "test_a_torch_that_has_onednn_has_its_product",
    ),
    PrivateApi(
        names=("transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS",),
        where="train/attention.py",
        why="a mask that is registered publicly holds from then on; a pack's holds while it is computed",
        test="tests/unit/test_policy_gradient.py::test_the_merged_gradient_is_the_unmerged_one",
    ),
    PrivateApi(
        names=("_attn_implementation", "_supports_flex_attn"),
        where="train/attention.py",
        why="how a model attends, and whether it may by FlexAttention, transformers says nowhere else",
        test="tests/unit/test_attention.py::test_a_model_with_an_attention_of_its_own_keeps_it",
    ),
    PrivateApi(
        names=("lora_", ".base_layer."),
        where="train/lora.py",
        why="peft's names of parameters: its own way to merge adapters changes the layers that are being trained",
        test="tests/unit/test_policy_gradient.py::test_adapters_are_merged_into_plain_weights_that_give_the_same_outputs",
    ),
    PrivateApi(
        names=("Task was destroyed but it is pending!",),
        where="rollout/event_loop.py",
        why="asyncio's words for a task that was left behind: handlers are told nothing else to know it by",
        test=HERE + "test_a_task_that_is_left_behind_ends_without_a_word",
    ),
    PrivateApi(
        names=(
            "asyncio.BaseSelectorEventLoop._make_self_pipe",
            "asyncio.BaseSelectorEventLoop._ssock",
            "asyncio.BaseSelectorEventLoop._csock",
            "asyncio.BaseSelectorEventLoop._internal_fds",
            "asyncio.BaseSelectorEventLoop._add_reader",
            "asyncio.BaseSelectorEventLoop._read_from_self",
        ),
        where="rollout/event_loop.py",
        why="what wakes a loop is two descriptors, and a run may have hundreds of loops",
        test="tests/unit/test_open_files.py::test_an_episode_by_url_holds_no_more_descriptors_than_are_counted_for_it",
    ),
    PrivateApi(
        names=("asyncio.BaseEventLoop._ready", "asyncio.BaseEventLoop._scheduled"),
        where="engine/stepped.py",
        why="a loop does not say whether it has anything to run, and turns without anything cost as much as others",
        test="tests/unit/test_engine_stepped.py::test_no_turn_passes_idly_while_nobody_can_ask",
    ),
    PrivateApi(
        names=("sys._current_frames",),
        where="rollout/watchdog.py",
        why="documented by Python in spite of its name: where another thread is",
        test="tests/unit/test_user_code.py::test_a_call_that_blocks_the_loop_for_good_is_ended_and_named",
    ),
    PrivateApi(
        names=("os._exit",),
        where="rollout/boundary.py",
        why="documented by Python in spite of its name: how a forked child ends",
        test="tests/unit/test_user_code.py::test_a_child_that_a_program_forks_never_goes_through_the_rest_of_the_run",
    ),
    PrivateApi(
        names=("os._exit",),
        where="config/cli/process.py",
        why="likewise, how a process ends that a thread keeps alive",
        test="tests/unit/test_endings.py::test_a_thread_that_never_ends_does_not_keep_the_process_alive",
    ),
    PrivateApi(
        names=("torch._dynamo.config.recompile_limit",),
        where="train/compiled.py",
        why="how many variants of a layer's code are kept has no public setting",
        test="tests/unit/test_compiled.py::test_compiled_layers_give_the_gradient_of_plain_ones",
    ),
    PrivateApi(
        names=("tinker.lib.base_url.resolve_base_url", "tinker.lib.base_url.DEFAULT_BASE_URL"),
        where="engine/tinker_service.py",
        why="adapters are downloaded and dropped by requests that the client has no call for, and go where its own go",
        test="tests/integration/test_tinker_training.py::test_a_checkpoint_holds_adapters_and_the_model_with_them_merged_in",
    ),
)
