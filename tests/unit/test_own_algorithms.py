"""Losses, advantages and aggregations of the user's: found, given their settings, checked, named where they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.factories import make_call, make_episode

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.cli.entry import run_entry
from ajet.config.compose import compose, load_training
from ajet.config.known_code import record_code
from ajet.config.saved import load, save
from ajet.errors import AlgorithmError, ConfigError
from ajet.records import EpisodeGroup, Task
from ajet.train.algorithms.rule import learning_rule
from ajet.train.algorithms.tokens import SampledTokens, example_tokens
from ajet.train.algorithms.trying import tried_rule
from ajet.train.algorithms.weights import BatchTotals

CODE = """
from dataclasses import dataclass
from pathlib import Path
import torch
Path(__file__).with_suffix(".ran").touch()

def plain(tokens, *, beta: float = 2.0, bounds: tuple[int, int] = (1, 2)):
    return -beta * tokens.logp * tokens.advantages

@dataclass
class Made:
    beta: float = 2.0
    def __call__(self, tokens):
        return -self.beta * tokens.logp * tokens.advantages

def clipping(tokens, *, clip_low: float):
    return -tokens.logp * clip_low

def own_default(tokens, *, clip_low: float = 0.1):
    return -tokens.logp

def needs(tokens, *, beta: float):
    return -tokens.logp

def everything(tokens, beta):
    return -tokens.logp

def summed(tokens):
    return (-tokens.logp).sum()

def four(tokens):
    return -tokens.logp, tokens.logp < 0, tokens.logp < 0, tokens.logp

def constant(tokens):
    return tokens.advantages

def explodes(tokens):
    return tokens.logp / (tokens.logp - tokens.logp)

def raises(tokens):
    return {}["ratio"]

def twice(outcomes):
    return 2 * outcomes.totals

def by_call(outcomes, *, gamma: float = 0.5):
    return [[total * gamma ** i for i in range(len(calls))] for total, calls in zip(outcomes.totals, outcomes.calls)]

def by_token(outcomes):
    return [[[1.0] * len(call.sampled_ids) for call in calls] for calls in outcomes.calls]

def too_few(outcomes):
    return [0.0]

def one_token(outcomes):
    return [[[1.0] for call in calls] for calls in outcomes.calls]

def no_numbers(outcomes):
    return [str(total) for total in outcomes.totals]

def divides(outcomes):
    import numpy as np
    with np.errstate(all="ignore"):
        return outcomes.totals / 0

def raises_too(outcomes):
    return outcomes.reward

def by_tag(outcomes):
    return [{"seer": 1.0}[calls[0].target_tag] * total for total, calls in zip(outcomes.totals, outcomes.calls)]

class Running:
    def __init__(self):
        self.totals = []
    def __call__(self, outcomes):
        self.totals += list(outcomes.totals)
        return outcomes.totals - sum(self.totals) / len(self.totals)

def root(length, totals):
    return length ** -0.5 / totals.num_sequences

def negative(length, totals):
    return -1.0

NUMBER = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own_rules.py"
    path.write_text(CODE)
    return path


def token_losses(file: Path, name: str, **settings: Any) -> list[float]:
    rule = learning_rule(AlgorithmConfig(loss=f"{file}->{name}", **settings))
    return [round(value, 4) for value in rule.token_losses(example_tokens())[0].tolist()]


def test_a_loss_has_the_settings_that_it_names(file: Path) -> None:
    expected = [
        -2 * logp * a for logp, a in zip([-0.02, -1.2, -7.0, -0.7, -2.5, -0.3], [1, 1, 1, -0.5, -0.5, 0], strict=True)
    ]
    assert token_losses(file, "plain") == pytest.approx(expected)
    assert token_losses(file, "plain", loss_args={"beta": 4, "bounds": [3, 4]}) == pytest.approx(
        [2 * value for value in expected]
    )
    assert token_losses(file, "Made", loss_args={"beta": 4.0}) == token_losses(file, "plain", loss_args={"beta": 4})


def test_a_loss_that_fails_on_a_real_batch_alone_is_named_too(tmp_path: Path) -> None:
    file = tmp_path / "own_late.py"
    file.write_text("def late(tokens):\n    assert len(tokens.logp) == 6, 'six'\n    return -tokens.logp\n")
    rule, one = learning_rule(AlgorithmConfig(loss=f"{file}->late")), torch.zeros(1)
    tokens = SampledTokens(
        logp=one, logp_old=one, logp_sampled=one, advantages=one, entropy=one, calls=torch.zeros(1, dtype=torch.int64)
    )
    with pytest.raises(AlgorithmError, match=r"own_late.py->late: AssertionError: six \(.*own_late.py:2\)"):
        rule.token_losses(tokens)


def test_a_parameter_that_is_called_like_a_key_has_its_value(file: Path) -> None:
    assert token_losses(file, "clipping", clip_low=0.5)[1] == 0.6


@pytest.mark.parametrize(
    ("kind", "name", "settings", "words"),
    [
        ("loss", "plain", {"loss_args": {"gamma": 1}}, "loss_args.gamma: algorithm.loss=FILE->plain has no such"),
        ("loss", "plain", {"loss_args": {"beta": "high"}}, "loss_args.beta=high: Input should be a valid number"),
        ("loss", "plain", {"loss_args": {"beta": True}}, "loss_args.beta=True: Input should be a valid number"),
        ("loss", "plain", {"clip_high": 0.3}, "clip_high=0.3 has no effect with algorithm.loss=FILE->plain"),
        ("loss", "sapo", {"loss_args": {"temperature_pos": 0}}, "temperature_pos=0: Input should be greater than 0"),
        ("loss", "own_default", {}, "clip_low is set by algorithm.clip_low, so that its own default has no effect"),
        ("loss", "clipping", {"loss_args": {"clip_low": 1}}, "loss_args.clip_low: it is set by algorithm.clip_low"),
        ("loss", "needs", {}, "algorithm.loss=FILE->needs needs algorithm.loss_args.beta"),
        ("loss", "everything", {}, "must take one argument by place, and its settings by keyword only"),
        ("loss", "summed", {}, "a value for each of the 6 tokens that it was given, not shape ()"),
        ("loss", "four", {}, "must give a tensor of losses, if need be with one of what is clipped and one of what is"),
        ("loss", "constant", {}, "does not depend on tokens.logp, so that it has no gradient"),
        ("loss", "explodes", {}, "algorithm.loss=FILE->explodes has a loss that is not finite for ordinary tokens"),
        ("loss", "raises", {}, "algorithm.loss=FILE->raises: KeyError: 'ratio' (FILE:"),
        ("loss", "NUMBER", {}, "algorithm.loss=FILE->NUMBER is neither a function nor a class"),
        ("loss", "missing", {}, "there is no 'missing'; there is "),
        ("advantage", "too_few", {}, "FILE->too_few must give each of 4 agents a number, one a call"),
        ("advantage", "one_token", {}, "FILE->one_token must give each of 4 agents a number, one a call, or one"),
        ("advantage", "no_numbers", {}, "FILE->no_numbers must give each of 4 agents a number"),
        ("advantage", "divides", {}, "FILE->divides gives advantages that are not finite for ordinary rewards"),
        ("advantage", "raises_too", {}, "FILE->raises_too: AttributeError: 'Outcomes'"),
        ("aggregation", "negative", {}, "FILE->negative must give a finite number from 0 on, not -1.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it_is_one_sentence_that_names_it(
    kind: str, name: str, settings: dict[str, Any], words: str, file: Path
) -> None:
    named: dict[str, Any] = {kind: name if name == "sapo" else f"{file}->{name}", **settings}
    with pytest.raises(ConfigError) as error:
        tried_rule(AlgorithmConfig(**named))
    assert words.replace("FILE", str(file)) in str(error.value) and "\n" not in str(error.value)


def group() -> EpisodeGroup:
    """Two episodes with rewards 0 and 1; the agent called twice in each and sampled two and one tokens."""
    episodes = tuple(
        make_episode(i, {"P1": float(i)}, make_call((1,), (2, 3)), make_call((4,), (5,), index=1)) for i in (0, 1)
    )
    return EpisodeGroup(task=Task(task_id="t"), episodes=episodes)


def test_an_advantage_is_a_value_an_agent_a_call_or_a_token(file: Path) -> None:
    def credited(name: str) -> Any:
        return learning_rule(AlgorithmConfig(advantage=f"{file}->{name}")).group_advantages(group())

    assert credited("twice").of_agents == {(0, "P1"): 0.0, (1, "P1"): 2.0}
    assert credited("twice").of_tokens == {0: {0: (0.0, 0.0), 1: (0.0,)}, 1: {0: (2.0, 2.0), 1: (2.0,)}}
    assert credited("by_call").of_tokens[1] == {0: (1.0, 1.0), 1: (0.5,)}
    assert credited("by_call").of_calls[1, 1] == 0.5 and credited("by_call").of_agents[1, "P1"] == 0.75
    assert credited("by_token").of_tokens[0] == {0: (1.0, 1.0), 1: (1.0,)}
    with pytest.raises(AlgorithmError, match="too_few must give each of 2 agents a number, one a call"):
        credited("too_few")


def test_an_advantage_is_not_judged_by_what_it_makes_of_invented_calls(file: Path) -> None:
    rule = tried_rule(AlgorithmConfig(advantage=f"{file}->by_tag"))
    assert rule.group_advantages(group()).of_agents == {(0, "P1"): 0.0, (1, "P1"): 1.0}


def test_a_rule_that_remembers_has_seen_nothing_before_the_first_step(file: Path) -> None:
    rule = tried_rule(AlgorithmConfig(advantage=f"{file}->Running"))
    assert rule.group_advantages(group()).of_agents == {(0, "P1"): -0.5, (1, "P1"): 0.5}


def test_an_aggregation_is_the_weight_of_each_token_of_a_sequence(file: Path) -> None:
    rule = learning_rule(AlgorithmConfig(aggregation=f"{file}->root"))
    assert rule.weight(4, BatchTotals(num_sequences=2, num_tokens=9)) == 0.25


SIGNALS = ["workflow=signals", "trainable_targets=[speaker]"]


def test_a_run_records_its_loss_and_runs_it_again_only_as_it_was(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = compose([*SIGNALS, f'algorithm.loss="{file}->plain"', "+algorithm.loss_args.beta=3"], run_dir=run)
    record_code(config, run)
    save(config, run / "config.yaml")
    assert f"algorithm.loss={file}->plain" in json.loads((run / "code.json").read_text())["code"]
    resumed = [f"resume={run}"]
    assert run_entry("train", load_training, lambda config: None, resumed) == 0
    file.write_text(CODE + "# another\n")
    assert run_entry("train", load_training, lambda config: None, resumed) == 2
    assert f"algorithm.loss={file}->plain, which has changed since the run was made" in capsys.readouterr().err
    assert not file.with_suffix(".ran").exists()


def test_the_old_key_of_the_aggregation_is_understood_and_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose([*SIGNALS, "algorithm=dr_grpo", "algorithm.loss=dr_grpo"], run_dir=tmp_path)
    assert (config.algorithm.loss, config.algorithm.aggregation) == ("clip", "dr_grpo")
    assert "algorithm.loss=dr_grpo is called algorithm.aggregation=dr_grpo now" in capsys.readouterr().err
    save(config, tmp_path / "config.yaml")
    old = yaml.safe_load((tmp_path / "config.yaml").read_text())
    old["algorithm"]["loss"] = old["algorithm"].pop("aggregation")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    found = load(tmp_path)
    assert (found.algorithm.loss, found.algorithm.aggregation) == ("clip", "dr_grpo")
