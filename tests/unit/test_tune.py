"""What is measured becomes settings: costs that a fit gives back, and a file that runs take by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import make_sample
from tests.sentences import names

from ajet.assemble.threads import seconds_of_products, threads_warning, warning_of
from ajet.config.compose import compose
from ajet.config.hardware import HardwareConfig, PackCosts
from ajet.errors import ConfigError
from ajet.train.packing import build_packs, cost_of
from ajet.tune.__main__ import main
from ajet.tune.fitting import Pass, best_number, fitted, least_shared
from ajet.tune.measuring import row_pack, tree_pack
from ajet.tune.report import Tuned

SIZES = (64, 128, 256, 512, 1024, 2048)


def passes(costs: PackCosts, *, token_s: float, kinds: tuple[bool, ...] = (False, True)) -> list[Pass]:
    """What a machine would take of which the costs are exactly true."""
    return [
        Pass(num_tokens=num, is_chain=kind, seconds=token_s * (costs.start + cost_of(num, costs, is_chain=kind)))
        for num in SIZES
        for kind in kinds
    ]


@given(st.floats(1e-5, 0.1), st.floats(0, 1), st.floats(0, 5000), st.floats(1e-7, 1e-1))
def test_costs_are_found_again_in_the_times_that_they_make(
    pair: float, share: float, start: float, token_s: float
) -> None:
    found = fitted(passes(PackCosts(pair=pair, chain_share=share, start=start), token_s=token_s))
    assert found.pair == pytest.approx(pair, rel=0.01)
    assert found.chain_share == pytest.approx(share, rel=0.01, abs=0.02)
    assert found.start == pytest.approx(start, rel=0.01, abs=0.1)


def test_of_plain_rows_alone_it_is_known_what_plain_rows_cost() -> None:
    true = PackCosts(pair=0.01, chain_share=0.5, start=30)
    found = fitted(passes(true, token_s=1e-4, kinds=(True,)))
    assert cost_of(1000, found, is_chain=True) == pytest.approx(cost_of(1000, true, is_chain=True), rel=0.01)


def test_a_machine_that_only_ever_waits_cannot_be_measured() -> None:
    with pytest.raises(ConfigError, match=r"raise algorithm\.max_pack_tokens"):
        fitted([Pass(num_tokens=num, is_chain=True, seconds=0.1) for num in SIZES])


@given(st.integers(2, 40), st.floats(0, 0.5), st.floats(0, 60))
def test_rows_share_a_pack_from_where_it_is_said(length: int, pair: float, start: float) -> None:
    costs = PackCosts(pair=pair, start=start)
    joined = []
    for shared in range(length):
        one = make_sample(range(length), (0,) * (length - 1) + (1,))
        other = make_sample((*range(shared), *range(100, 100 + length - shared)), (0,) * (length - 1) + (1,), repeat=1)
        joined.append(len(build_packs([one, other], [1.0, 1.0], ["seer"], max_tokens=1000, costs=costs)) == 1)
    least = least_shared(length, costs)
    assert joined == [least is not None and shared >= least for shared in range(length)]


def test_the_fewest_threads_that_are_nearly_as_fast_are_chosen() -> None:
    assert best_number({1: 1.0, 2: 9.0}) == 1
    assert best_number({1: 1.0, 2: 0.55, 4: 0.54}) == 2


@pytest.mark.parametrize("num", [64, 128, 2048])
def test_packs_that_are_measured_have_their_size_and_kind(num: int) -> None:
    row, tree = row_pack(num, 500), tree_pack(num, 500)
    assert len(row.token_ids) == len(tree.token_ids) == num
    assert row.is_chain and not tree.is_chain
    assert len(row.targets) == len(tree.targets) == num // 2


def test_what_was_measured_is_taken_by_name_and_stands_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    found = Tuned(
        about="a model on a machine",
        costs=PackCosts(pair=0.000123, chain_share=0.25, start=41.5),
        used=PackCosts(),
        updating={1: 1.0, 2: 0.5},
        sampling={1: 1.0, 2: 9.0},
    )
    (tmp_path / "tuned" / "here.yaml").write_text(found.yaml())
    overrides = ["workflow=signals", "+tuned=here", "hardware.costs.start=7"]
    hardware = compose(overrides, run_dir=tmp_path, config_dir=str(tmp_path)).hardware
    assert hardware.costs == PackCosts(pair=0.000123, chain_share=0.25, start=7.0)
    assert (hardware.training_threads, hardware.sampling_threads) == (2, 1)
    assert "hardware.training_threads=2 hardware.sampling_threads=1" in found.words()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["to=laptop"], "to=laptop ... .yaml ... tuned/laptop.yaml"),
        (["to=conf/hardware/laptop.yaml"], "to=conf/hardware/laptop.yaml ... folder tuned"),
        (["--cfg", "job"], "--cfg ... --config-dir"),
        (["workflow=signals", "hardware=gpu_1"], "hardware.device=cuda ... hardware=cpu"),
        (["workflow=signals", "hardware=tinker"], "nothing to measure ... engine=tinker"),
        (["workflow=signals", "hardware=gpu_1", "to=/proc/tuned/x.yaml"], "/proc/tuned ... cannot be written"),
    ],
)
def test_what_cannot_be_measured_or_written_is_said(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert names(capsys.readouterr().err, sentence)


def test_threads_that_slow_a_run_down_are_told_and_left_as_they_are() -> None:
    before = torch.get_num_threads()
    one, two = seconds_of_products(1, 2)
    assert one > 0 and two > 0 and torch.get_num_threads() == before
    assert threads_warning(HardwareConfig(sampling_threads=1, training_threads=1)) is None
    assert threads_warning(HardwareConfig(device="cuda", sampling_threads=8)) is None
    assert warning_of(2, 1.2) is None
    assert names(str(warning_of(2, 9.0)), "2 threads ... 9.0 times slower ... hardware.sampling_threads=1")


@pytest.mark.slow
def test_the_command_measures_the_small_model_and_writes_what_a_run_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "tuned" / "here.yaml"
    assert main(["workflow=signals", "algorithm.max_pack_tokens=256", f"to={to}"]) == 0
    said = capsys.readouterr().out
    assert "costs of packs" in said and f"--config-dir {tmp_path} +tuned=here" in said
    costs = compose(["workflow=signals", "+tuned=here"], run_dir=tmp_path, config_dir=str(tmp_path)).hardware.costs
    assert costs != PackCosts() and costs.pair >= 0 and costs.start >= 0
