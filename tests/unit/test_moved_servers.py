"""A run whose Tinker server has moved is resumed and evaluated where that is now, and with nothing else changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sentences import names

from ajet.config.cli.entry import run_entry
from ajet.config.compose import compose, load_training
from ajet.config.known_code import record_code
from ajet.config.root import Config, EvaluateConfig
from ajet.config.saved import load, save
from ajet.engine.tinker import MovedServerConfig, TinkerConfig
from ajet.errors import ConfigError
from ajet.evaluate.entries import evaluation_entries

OLD, NEW = "http://old:8000", "http://new:8000"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", "hardware=tinker", f"tinker.base_url={OLD}", "tinker.timeout_s=60")


def make_run(folder: Path, *overrides: str) -> Path:
    folder.mkdir()
    config = compose(["workflow=signals", *overrides], run_dir=folder)
    record_code(config, folder)
    save(config, folder / "config.yaml")
    return folder


def resumed(run: Path, *overrides: str) -> Config:
    """As `ajet.train resume=` would train it."""
    configs: list[Config] = []

    def train(config: Config) -> None:
        record_code(config, run)
        save(config, run / "config.yaml")
        configs.append(config)

    assert run_entry("train", load_training, train, [f"resume={run}", *overrides]) == 0
    return configs[0]


def test_a_resumed_run_asks_the_server_where_it_is_now_and_so_does_the_next(run: Path) -> None:
    asked = [
        f"tinker.base_url={NEW}",
        "tinker.timeout_s=900",
        "tinker.base_model=/models/eight",
        "tinker.api_key_env=MINE",
    ]
    config = resumed(run, *asked)
    expected = TinkerConfig(base_url=NEW, timeout_s=900, base_model="/models/eight", api_key_env="MINE")
    again = resumed(run)
    for each in (config, again, load(run)):
        assert each.tinker == each.engine.service == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("setting", ["tinker.loss=linearised", "tinker.normalization=token_sum"])
def test_what_may_change_results_stays_as_it_was(run: Path, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("train", load_training, lambda config: None, [f"resume={run}", setting]) == 2
    assert names(capsys.readouterr().err, f"{setting.partition('=')[0]} cannot change ... tinker.base_url")


def test_an_evaluation_asks_the_server_where_it_is_now_and_leaves_the_run_as_it_was(run: Path) -> None:
    moved = MovedServerConfig(base_url=NEW, timeout_s=5)
    entry, *_ = evaluation_entries(EvaluateConfig(run=str(run), output_dir=str(run / "evaluation"), tinker=moved))
    service = entry.config.engine.service  # type: ignore[attr-defined]
    assert (service.base_url, service.timeout_s, service.api_key_env) == (NEW, 5, "TINKER_API_KEY")
    assert load(run).tinker.base_url == OLD


def test_a_server_is_moved_of_runs_that_have_one(run: Path, tmp_path: Path) -> None:
    local = make_run(tmp_path / "local", "engine=transformers")
    for request in (
        EvaluateConfig(run=str(local), tinker=MovedServerConfig(base_url=NEW)),
        EvaluateConfig(
            run=str(run),
            tinker=MovedServerConfig(base_url=NEW),
            engine=compose(["workflow=signals", "engine=transformers"], run_dir=tmp_path).engine,
        ),
    ):
        with pytest.raises(ConfigError, match=r"tinker\.\* has no effect with engine=transformers"):
            evaluation_entries(request)
