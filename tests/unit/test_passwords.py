"""An address with a password in it is refused before anything is written, by a sentence that does not show it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.sentences import names
from tests.unit.test_moved_servers import NEW, OLD, make_run, resumed

from ajet.config.fields import shows_password, without_password
from ajet.errors import ConfigError
from ajet.evaluate.__main__ import main as evaluate
from ajet.rollout.agents.agentjet.task_rollout.dashscope_llm_bridge import Account
from ajet.rollout.worker import work
from ajet.train.__main__ import main as train
from ajet.workflow import Workflow

SECRET = "open-sesame"
PLACE = f"http://me:{SECRET}@host:8000"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["hardware=tinker", f"tinker.base_url={PLACE}"], "tinker.base_url ... tinker.api_key_env"),
        (["hardware=tinker", f"tinker.base_url=https://{SECRET}@host"], "tinker.base_url ... tinker.api_key_env"),
        (["hardware=tinker", f"tinker.base_url=me:{SECRET}@host"], "tinker.base_url=host must be a URL"),
        (["judge=llm", f"judge.base_url={PLACE}", "judge.model=m"], "judge.base_url ... judge.api_key_env"),
        (["opponent=openai", f"opponent.base_url={PLACE}", "opponent.model=m"], "opponent.base_url"),
        (["engine=vllm_server", f"engine.urls=[http://other:1,{PLACE}]"], "engine.urls must not hold a password"),
        ([f"+own.database=postgres://me:{SECRET}@host/db"], "own.database must not hold a password"),
        (["-m", "sweep=optuna", "hardware=tinker", f"tinker.base_url={OLD},{PLACE}"], "tinker.base_url"),
    ],
)
def test_a_password_in_an_address_is_refused_and_shown_nowhere(
    overrides: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(["workflow=signals", *overrides]) == 2
    printed = capsys.readouterr()
    assert names(printed.err, told) and SECRET not in printed.out + printed.err
    assert [*tmp_path.iterdir()] == []


def test_one_in_the_environment_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_BASE_URL", PLACE)
    assert train(["workflow=signals", "hardware=tinker", f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert names(said, "TINKER_BASE_URL must not hold a password ... tinker.api_key_env") and SECRET not in said
    for refuse, instead in (
        (lambda: Account.of_environment(PLACE), "export DASHSCOPE_API_KEY"),
        (lambda: work(PLACE, Workflow, key="any"), "export its key"),
    ):
        with pytest.raises((RuntimeError, ConfigError), match=instead) as told:
            refuse()
        assert SECRET not in str(told.value)


def test_a_run_that_has_one_goes_on_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", "hardware=tinker", f"tinker.base_url={OLD}")
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["tinker"]["base_url"] = content["engine"]["service"]["base_url"] = PLACE
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    for main, setting in ((train, "resume"), (evaluate, "run")):
        assert main([f"{setting}={run}", "trust_code=true"]) == 2
        said = capsys.readouterr().err
        assert "tinker.base_url must not hold a password" in said
        assert main([f"{setting}={run}"]) == 2, "nobody has recorded that it is sent there"
        assert SECRET not in said + capsys.readouterr().err
    assert resumed(run, f"tinker.base_url={NEW}", "trust_code=true").tinker.base_url == NEW
    assert SECRET not in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://me:{SECRET}@host/v1", "https://***@host/v1"),
        (f"https://{SECRET}@host", "https://***@host"),
        (f"s3://key:{SECRET}@bucket", "s3://***@bucket"),
        ("ssh://git@host/repository", None),
        ("http://[::1]:8000/v1?to=a:b@c", None),
        ("[http://one:8000,http://two:8000]", None),
        ("package.module:Class", None),
        ("an address such as http://me:it@host in a rubric", None),
    ],
)
def test_what_counts_as_a_password(text: str, shown: str | None) -> None:
    assert shows_password(text) == (shown is not None)
    assert shown is None or without_password(text) == shown
