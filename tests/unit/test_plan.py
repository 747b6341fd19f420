"""What a run will need is computed from counts alone, and what cannot fit is refused with what would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.tiny_model import build_tiny_model, save_tiny_model
from tests.model_families import tiny_model
from tests.sentences import names
from torch.autograd.graph import saved_tensors_hooks

from ajet.config.compose import compose
from ajet.config.model import LoraConfig
from ajet.config.options import option
from ajet.config.root import Config
from ajet.errors import ConfigError, RunDirectoryError
from ajet.plan.__main__ import main
from ajet.plan.fitting import nearest_fitting, refusal_of, why_not
from ajet.plan.machine import Machine, memory_of, this_machine
from ajet.plan.parts import (
    FLOAT32,
    GIB,
    PHASES,
    MemoryPlan,
    ModelShape,
    Setup,
    Sizing,
    memory_plan,
    planned_words,
    sizing_from_json,
)
from ajet.plan.planning import plan_of, planned
from ajet.plan.setup import setup_of
from ajet.plan.shapes import local_model, model_shape
from ajet.plan.speed import MeasuredRun, operations_per_token, read_run, scaled_seconds
from ajet.plan.words import passes_words, play_words, seconds_words, warning
from ajet.plan.work import StepWork, step_work
from ajet.train.algorithms.credit.base import CreditConfig
from ajet.train.algorithms.credit.per_tag import PerTagConfig
from ajet.train.head import PIECE, PIECE_ON_GPU
from ajet.train.lora import with_lora

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ACTIVATIONS = "update: activations of a pack"
SMOLLM2 = ModelShape(
    num_parameters=134_515_008,
    num_adapter_parameters=0,
    num_adapted_parameters=0,
    num_head_parameters=28_311_552,
    is_tied=True,
    vocabulary=49_152,
    width=576,
    widest=1_536,
    num_layers=30,
    kept_per_token=1_434_932,
    kv_per_token=11_520,
)
ON_CPU = Setup(
    device="cpu",
    engine="vllm",
    dtype_bytes=4,
    kv_cache_gib=1.0,
    gpu_memory_utilization=None,
    gpu_memory_gib=None,
    num_sequences=64,
    max_context=2048,
    num_engines=1,
    engine_sleeps=False,
    merges_adapters=True,
    has_reference=False,
    mixed_precision=False,
    gradient_checkpointing=False,
    num_shards=1,
    pack_tokens=2048,
    branching_tokens=2048,
)
ON_GPU = replace(
    ON_CPU, device="cuda", kv_cache_gib=None, gpu_memory_utilization=0.4, gpu_memory_gib=80.0, mixed_precision=True
)
NO_KL = ["algorithm.kl_coef=0", "algorithm.kl_schedule=constant"]
PLAIN = StepWork(
    num_epochs=1,
    num_forwards=0,
    num_reference_forwards=0,
    num_episodes=8,
    max_resamples=0,
    credit="per_tag",
    most_replays=0,
)
setups = st.builds(
    lambda base, packed, longest, checkpointing, blocks_from: replace(
        base,
        blocks_from=blocks_from,
        pack_tokens=max(packed, longest),
        branching_tokens=packed,
        max_context=longest,
        gradient_checkpointing=checkpointing,
    ),
    st.sampled_from([ON_CPU, ON_GPU, replace(ON_CPU, engine="transformers", kv_cache_gib=None)]),
    st.integers(16, 32_768),
    st.integers(16, 32_768),
    st.booleans(),
    st.sampled_from([None, 128, 4097]),
)


def part(plan: MemoryPlan, name: str) -> float:
    """A part's GiB; 0 where it is left out."""
    return next((one.gib for one in plan.parts if one.name == name), 0.0)


def adapted(rank: int) -> ModelShape:
    return replace(SMOLLM2, num_adapter_parameters=305_280 * rank, num_adapted_parameters=106_168_320)


def never_less(small: MemoryPlan, large: MemoryPlan) -> bool:
    return all(small.peak_gib(phase) <= large.peak_gib(phase) + 1e-9 for phase in PHASES)


@given(setups, st.integers(16, 32_768))
def test_a_longer_context_and_a_larger_pack_never_need_less(setup: Setup, more: int) -> None:
    small = memory_plan(SMOLLM2, setup)
    longer = max(setup.max_context, more)
    context = replace(setup, max_context=longer, pack_tokens=max(setup.pack_tokens, longer))
    assert never_less(small, memory_plan(SMOLLM2, context))
    branching = max(setup.branching_tokens, more)
    packed = replace(setup, branching_tokens=branching, pack_tokens=max(setup.pack_tokens, branching))
    assert never_less(small, memory_plan(SMOLLM2, packed))


@given(setups, st.integers(1, 32_768))
def test_without_masks_a_pack_needs_no_more_and_a_large_one_less(setup: Setup, first: int) -> None:
    masked = memory_plan(SMOLLM2, replace(setup, blocks_from=None))
    by_blocks = memory_plan(SMOLLM2, replace(setup, blocks_from=first))
    assert never_less(by_blocks, masked)
    whole = replace(setup, pack_tokens=32_768, branching_tokens=32_768, blocks_from=None)
    # A mask of 4 bytes a pair in each of 30 layers, at one layer at a time with checkpointing.
    mask_gib = 32_768**2 * FLOAT32 * (1 if setup.gradient_checkpointing else SMOLLM2.num_layers) / GIB
    saved = part(memory_plan(SMOLLM2, whole), ACTIVATIONS) - part(
        memory_plan(SMOLLM2, replace(whole, blocks_from=128)), ACTIVATIONS
    )
    assert saved == pytest.approx(mask_gib)


@given(setups, st.integers(1, 256), st.integers(1, 256))
def test_a_higher_rank_never_needs_less(setup: Setup, a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert never_less(memory_plan(adapted(low), setup), memory_plan(adapted(high), setup))


@given(setups, st.integers(1, 300_000), st.integers(1, 300_000))
def test_a_larger_vocabulary_never_needs_less(setup: Setup, a: int, b: int) -> None:
    def plan(vocabulary: int) -> MemoryPlan:
        head = vocabulary * SMOLLM2.width
        others = SMOLLM2.num_parameters - SMOLLM2.num_head_parameters
        shape = replace(SMOLLM2, vocabulary=vocabulary, num_head_parameters=head, num_parameters=others + head)
        return memory_plan(shape, setup)

    assert never_less(plan(min(a, b)), plan(max(a, b)))


@given(setups, st.integers(1, 256))
def test_adapters_alone_have_gradients_and_moments(setup: Setup, rank: int) -> None:
    shape = adapted(rank)
    plan = memory_plan(shape, setup)
    assert part(plan, "training: gradients") == pytest.approx(shape.num_adapter_parameters * FLOAT32 / GIB)
    assert part(plan, "training: Adam's moments") == pytest.approx(2 * shape.num_adapter_parameters * FLOAT32 / GIB)
    everything = memory_plan(SMOLLM2, setup)
    assert part(everything, "training: gradients") == pytest.approx(SMOLLM2.num_parameters * FLOAT32 / GIB)


@given(setups)
def test_layers_that_run_again_keep_less(setup: Setup) -> None:
    plain = memory_plan(SMOLLM2, replace(setup, gradient_checkpointing=False))
    again = memory_plan(SMOLLM2, replace(setup, gradient_checkpointing=True))
    assert never_less(again, plain)
    assert again.certain_gib == plain.certain_gib


@given(setups)
def test_moments_that_are_kept_elsewhere_take_nothing_here(setup: Setup) -> None:
    plain = memory_plan(SMOLLM2, replace(setup, offload_optimizer=False))
    without = memory_plan(SMOLLM2, replace(setup, offload_optimizer=True))
    moments = 2 * SMOLLM2.num_parameters * FLOAT32 / GIB / setup.num_shards
    assert plain.peak_gib("update") - without.peak_gib("update") == pytest.approx(moments)


def test_vllm_takes_its_share_of_a_gpu_whatever_it_needs() -> None:
    assert part(memory_plan(SMOLLM2, ON_GPU), "engine: its share of the GPU") == pytest.approx(32.0)
    # Of a GPU that is not here only what the model takes is known.
    unknown = memory_plan(SMOLLM2, replace(ON_GPU, gpu_memory_gib=None, dtype_bytes=2))
    assert part(unknown, "engine: weights") == pytest.approx(SMOLLM2.num_parameters * 2 / GIB)


def test_a_scripted_engine_and_ones_of_the_users_hold_no_model_that_is_known_of() -> None:
    for engine in ("scripted", "mine.py->Remote"):
        assert not [one for one in memory_plan(SMOLLM2, replace(ON_CPU, engine=engine)).parts if "engine:" in one.name]


def test_a_frozen_opponent_is_a_second_engine_and_a_penalty_a_second_model() -> None:
    one, two = memory_plan(SMOLLM2, ON_CPU), memory_plan(SMOLLM2, replace(ON_CPU, num_engines=2))
    assert part(two, "engine: weights") == pytest.approx(2 * part(one, "engine: weights"))
    assert part(two, "engine: KV cache") == pytest.approx(2.0)
    held = memory_plan(SMOLLM2, replace(ON_CPU, has_reference=True))
    assert part(held, "training: reference model") == pytest.approx(SMOLLM2.num_parameters * FLOAT32 / GIB)


def test_adapters_that_the_engine_takes_as_they_are_merge_no_layer() -> None:
    shape = replace(SMOLLM2, num_adapter_parameters=2_000_000, num_adapted_parameters=100_000_000)
    merged, apart = memory_plan(shape, ON_GPU), memory_plan(shape, replace(ON_GPU, merges_adapters=False))
    assert part(merged, "publishing: merged layers") > 0.5
    assert not [one for one in apart.parts if one.name == "publishing: merged layers"]


def test_logits_are_counted_in_the_pieces_that_training_computes() -> None:
    from ajet.plan.parts import LOGITS_AT_ONCE

    assert LOGITS_AT_ONCE == {"cpu": PIECE, "cuda": PIECE_ON_GPU}


def kept_by_a_real_pass(model: Any, num_tokens: int) -> int:
    """Bytes that autograd saves in a forward pass below the head, beneath a mask that branches."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    base = getattr(model, "get_base_model", lambda: model)().base_model
    mask = torch.ones(1, 1, num_tokens, num_tokens, dtype=torch.bool).tril()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        base(
            input_ids=torch.zeros(1, num_tokens, dtype=torch.long),
            attention_mask=mask,
            position_ids=torch.arange(num_tokens)[None],
            use_cache=False,
        )
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("rank", [0, 4])
def test_counts_without_weights_are_those_of_the_real_model(rank: int, tmp_path: Path) -> None:
    path, model, num_tokens = save_tiny_model(tmp_path), build_tiny_model(), 96
    lora = LoraConfig(rank=rank, alpha=8.0, targets=TARGETS) if rank else LoraConfig()
    shape = model_shape(path, lora, dtype="float32")
    assert shape.num_parameters == sum(weight.numel() for weight in model.parameters())
    real: Any = with_lora(model, rank=rank, alpha=8, targets=TARGETS) if rank else model
    trained = sum(weight.numel() for weight in real.parameters() if weight.requires_grad)
    assert shape.num_trained == trained
    masks = shape.num_layers * num_tokens**2 * FLOAT32
    expected = (shape.kept_per_token or 0) * num_tokens + masks
    assert kept_by_a_real_pass(real.eval(), num_tokens) == pytest.approx(expected, rel=0.03)


def test_a_model_that_does_not_run_without_weights_is_still_counted(tmp_path: Path) -> None:
    config = {"model_type": "bloom", "vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = model_shape(str(tmp_path), LoraConfig(), dtype="float32")
    assert shape.num_parameters > 2 * 32 * 32 and memory_plan(shape, ON_CPU).certain_gib > 1.0


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mamba", "llama4_text", "deepseek_v3", "falcon_h1", "gpt_oss"])
def test_any_architecture_has_a_plan(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.config.save_pretrained(tmp_path)
    shape = model_shape(str(tmp_path), LoraConfig(), dtype="float32")
    assert shape.num_parameters == sum(weight.numel() for weight in model.parameters())
    assert memory_plan(shape, ON_CPU).largest_gib > 1.0


def test_processes_that_share_out_weights_hold_a_part_each() -> None:
    whole, half = memory_plan(SMOLLM2, ON_CPU), memory_plan(SMOLLM2, replace(ON_CPU, num_shards=2))
    for name in ("training: weights", "training: gradients", "training: Adam's moments"):
        assert part(half, name) == pytest.approx(part(whole, name) / 2)
    assert part(half, "engine: weights") == part(whole, "engine: weights")


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nSwapFree:              0 kB\n")
    assert memory_of(meminfo, None) == (16 * GIB, 8 * GIB)
    assert memory_of(meminfo, (4 * GIB, GIB)) == (4 * GIB, 3 * GIB)
    assert memory_of(meminfo, (64 * GIB, GIB)) == (16 * GIB, 8 * GIB)
    assert memory_of(tmp_path / "nowhere", None) == (None, None)


def test_processes_share_the_memory_of_a_machine() -> None:
    one, two = this_machine("cpu"), this_machine("cpu", num_processes=2)
    assert one.total_gib is not None and two.total_gib == pytest.approx(one.total_gib / 2)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's `config.json` alone: a model of half a billion parameters in few layers."""
    folder = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 4, "vocab_size": 151_936}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", **sizes, **heads}))
    return folder


def config_of(model_dir: Path, *overrides: str) -> Config:
    return compose(["workflow=signals", f"model.path={model_dir}", *overrides], run_dir=".")


def machine_of(gib: float) -> Machine:
    return Machine(what="this machine", total_gib=gib, available_gib=gib)


@pytest.mark.parametrize("gib", [9.0, 12.0, 14.0])
def test_what_is_offered_fits_by_the_same_computation(gib: float, model_dir: Path) -> None:
    config, machine = config_of(model_dir), machine_of(gib)

    def plan(other: Config) -> MemoryPlan:
        return plan_of(other, str(model_dir), machine)

    found = nearest_fitting(config, machine, plan)
    assert found is not None
    settings, need = found
    assert plan(config_of(model_dir, *settings)).largest_gib == pytest.approx(need)
    assert need <= gib


def test_a_run_that_cannot_fit_is_refused_with_what_would(model_dir: Path) -> None:
    config, machine = config_of(model_dir), machine_of(9.0)
    plan = plan_of(config, str(model_dir), machine)
    said = refusal_of(config, plan, machine, lambda other: plan_of(other, str(model_dir), machine))
    assert said is not None and names(said, "at least ... 9.0 GiB ... model.lora.rank=16")
    nowhere = machine_of(0.5)
    said = refusal_of(config, plan, nowhere, lambda other: plan_of(other, str(model_dir), nowhere))
    assert said is not None and "nor does anything smaller" in said


def test_a_run_is_refused_before_it_loads_anything(tmp_path: Path) -> None:
    sizes = {"hidden_size": 65_536, "intermediate_size": 262_144, "num_hidden_layers": 4, "vocab_size": 1_000}
    heads = {"num_attention_heads": 512, "num_key_value_heads": 512, "head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", **sizes, **heads}))
    with pytest.raises(ConfigError, match=r"at least .* GiB .* this machine has"):
        planned(config_of(tmp_path), str(tmp_path))


def test_what_may_fit_is_not_refused_but_warned_of(model_dir: Path) -> None:
    config = config_of(model_dir)
    plan = plan_of(config, str(model_dir), machine_of(1000.0))
    machine = machine_of((plan.certain_gib + plan.largest_gib) / 2)
    assert refusal_of(config, plan, machine, lambda _: plan) is None
    said = warning(plan, machine)
    assert said is not None and names(said, "algorithm.max_pack_tokens ... hardware.gradient_checkpointing")
    assert warning(plan, machine_of(1000.0)) is None
    unknown = Machine(what="a GPU", total_gib=None, available_gib=None)
    assert refusal_of(config, plan, unknown, lambda _: plan) is None and warning(plan, unknown) is None


@pytest.mark.parametrize("overrides", [["workflow=signals"], ["workflow=werewolves", "trainable_targets=[seer]"]])
def test_the_small_model_is_not_refused_on_a_small_machine(overrides: list[str]) -> None:
    config = compose(overrides, run_dir=".")
    assert why_not(plan_of(config, local_model(config.model), machine_of(2.0)), machine_of(2.0)) is None


def test_a_plan_is_read_back_as_it_was_written(model_dir: Path) -> None:
    sizing = Sizing(shape=SMOLLM2, setup=setup_of(config_of(model_dir)))
    content = json.loads(json.dumps(sizing.to_json()))
    assert sizing_from_json(content) == sizing
    assert content["peak_gib"]["update"] == pytest.approx(sizing.plan().peak_gib("update"))


def test_a_run_says_how_far_its_plan_was_off() -> None:
    assert names(planned_words(4.0, 4.4, 961), "4.4 GiB ... 4.0 ... 961 tokens ... 10%")


def test_the_command_prints_parts_and_whether_they_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workflow=signals"]) == 0
    said = capsys.readouterr().out
    assert "Adam's moments" in said and "KV cache" in said and "GFLOP/s" in said
    assert names(said, "algorithm.max_pack_tokens ... model.max_context")


def test_what_a_server_computes_is_not_planned_for_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workflow=signals", "hardware=tinker"]) == 0
    assert names(capsys.readouterr().out, "nothing to plan ... engine=tinker ... server")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["workflow=signals", "model.path=nobody/nothing"], "model.path=nobody/nothing ... cache"),
        (["workflow=signals", "-m"], "-m ... one run"),
        (["workflow=chess"], "workflow"),
        (["workflow=signals", "from_run=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and names(said, wanted)


def test_a_run_of_before_gives_its_pack_and_its_seconds(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(RunDirectoryError, match="no step"):
        read_run(run)
    lines = [
        {"step": step, "time/rollout": 4.0, "time/update": 2.0, "time/sync": 1.0, "time/step": 7.0, "tokens/unique": 90}
        for step in range(3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sizes = ["rollout.num_tasks=4", "rollout.group_size=2"]
    config = compose(["workflow=signals", *NO_KL, *sizes], run_dir=run)
    from ajet.config.saved import save

    save(config, run / "config.yaml")
    (run / "summary.json").write_text(json.dumps({"largest_pack": 70}))
    (run / "plan.json").write_text(json.dumps(Sizing(shape=SMOLLM2, setup=ON_CPU).to_json()))
    measured = read_run(run)
    assert (measured.largest_pack, measured.num_unique, measured.work) == (70, 90, PLAIN)
    twice = replace(SMOLLM2, num_parameters=2 * SMOLLM2.num_parameters)
    assert scaled_seconds(measured, twice, ON_CPU, replace(PLAIN, num_episodes=16)) == {
        "rollout": (16.0, 16.0),
        "credit": (0.0, 0.0),
        "update": (8.0, 8.0),
        "sync": (2.0, 2.0),
    }


def test_each_pass_over_a_token_is_counted() -> None:
    shape = replace(SMOLLM2, num_parameters=100)
    again = replace(ON_CPU, gradient_checkpointing=True)
    assert operations_per_token(shape, ON_CPU, PLAIN) == 600 and operations_per_token(shape, again, PLAIN) == 800
    work = replace(PLAIN, num_epochs=2, num_forwards=3, num_reference_forwards=1)
    assert operations_per_token(shape, ON_CPU, work) == 2 * 600 + 3 * 200 + 200
    adapted_shape = replace(shape, num_adapter_parameters=10)  # which the reference is without
    assert operations_per_token(adapted_shape, ON_CPU, work) == 2 * 460 + 3 * 220 + 200


@pytest.mark.parametrize(
    ("overrides", "epochs", "forwards", "of_reference"),
    [
        (NO_KL, 1, 0, 0),
        (["algorithm.kl_coef=0.1", "algorithm.num_epochs=3"], 3, 0, 3),
        (["algorithm.kl_coef=0.1", "algorithm.num_epochs=3", "algorithm.kl_in=reward"], 3, 0, 1),
        ([*NO_KL, "algorithm.tis_cap=2", "algorithm.num_epochs=2"], 2, 1, 0),
        ([*NO_KL, "algorithm.top_entropy_quantile=0.2", "algorithm.num_epochs=2"], 2, 2, 0),
        ([*NO_KL, "credit=critic", "algorithm.num_epochs=2"], 2, 1, 0),
    ],
)
def test_what_is_done_with_a_token_is_read_off_the_settings(
    overrides: list[str], epochs: int, forwards: int, of_reference: int, model_dir: Path
) -> None:
    config = config_of(model_dir, *overrides)
    work = step_work(config)
    assert (work.num_epochs, work.num_forwards, work.num_reference_forwards) == (epochs, forwards, of_reference)
    assert setup_of(config).has_reference == (of_reference > 0)


class OfOnesOwn(CreditConfig):
    """Plays again whatever it likes."""

    plays_again = True


def test_a_credit_rule_says_how_often_it_may_have_an_episode_played_again(model_dir: Path) -> None:
    difference, counterfactual = option("credit", "difference"), option("credit", "counterfactual")
    assert PerTagConfig().most_replays(num_tags=2) == 0
    assert difference(num_replays=3).most_replays(num_tags=2) == 6
    assert difference().most_replays(num_tags=None) is None
    assert counterfactual(num_calls=2, num_replays=5).most_replays(num_tags=None) == 10
    assert OfOnesOwn(name="mine").most_replays(num_tags=1) is None
    asked = ["credit=difference", "opponent=random", "trainable_targets=null"]
    work = step_work(config_of(model_dir, *NO_KL, *asked, "rollout.num_tasks=4", "rollout.group_size=2"))
    assert work == replace(PLAIN, credit="difference", most_replays=2), "speaker and listener"


def test_what_only_play_would_tell_has_bounds() -> None:
    run = MeasuredRun(
        seconds={"rollout": 6.0, "credit": 0.0, "advantage": 1.0, "update": 2.0, "sync": 1.0},
        num_unique=90,
        work=PLAIN,
        num_resampled=0.0,
        largest_pack=None,
        sizing=None,
    )

    def seconds(of: MeasuredRun, **work: Any) -> dict[str, tuple[float, float]]:
        return scaled_seconds(of, SMOLLM2, ON_CPU, replace(PLAIN, **work))

    assert seconds(run, max_resamples=2)["rollout"] == (6.0, 18.0)
    assert seconds(run, credit="difference", most_replays=2)["credit"] == (0.0, 12.0)
    # In half of the groups another one had come before: four of the six seconds are those of what was trained on.
    resampled = replace(run, work=replace(PLAIN, max_resamples=1), num_resampled=0.5)
    assert seconds(resampled, max_resamples=1)["rollout"] == (6.0, 6.0)
    assert seconds(resampled)["rollout"] == (4.0, 4.0) and seconds(resampled, max_resamples=2)["rollout"] == (4.0, 12.0)
    replayed = replace(
        run, work=replace(PLAIN, credit="difference", most_replays=1), seconds={**run.seconds, "credit": 3.0}
    )
    assert seconds(replayed, credit="difference", most_replays=2)["credit"] == (6.0, 6.0)
    assert seconds(replayed)["credit"] == (0.0, 0.0)
    # Forward and backward cost thrice what a forward pass does; what is asked before the step is part of it.
    assert seconds(run, num_reference_forwards=1)["update"] == pytest.approx((4.0, 4.0))


def test_seconds_and_play_are_told_with_their_bounds() -> None:
    seconds = {"rollout": (4.0, 12.0), "credit": (0.0, 0.0), "update": (2.0, 2.0), "sync": (1.0, 1.0)}
    said = seconds_words(seconds, num_unique=90)
    assert names(said, "7.0 to 15.0 ... playing 4.0 to 12.0 ... updating 2.0 ... publishing 1.0")
    assert "again" not in said and "again 0.0 to 8.0" in seconds_words({**seconds, "credit": (0.0, 8.0)}, num_unique=90)
    work = replace(PLAIN, max_resamples=2, credit="mine.py->Mine", most_replays=None)
    assert names(play_words(PLAIN), "8 episodes") and "at most" not in play_words(PLAIN)
    assert names(play_words(work), "8 ... 24 ... rollout.max_resamples=2 ... credit=mine.py->Mine ... not known")
    assert names(play_words(replace(PLAIN, credit="difference", most_replays=2)), "2 times ... credit=difference")
    assert names(passes_words(replace(PLAIN, num_forwards=3)), "1 x forward and backward ... 3 x forward")


def test_a_hub_model_that_is_not_here_is_not_fetched(model_dir: Path) -> None:
    config = config_of(model_dir)
    config.model.path = "nobody/nothing"
    with pytest.raises(ConfigError, match="downloads nothing"):
        local_model(config.model)
