"""Credit rules of the user's: found by import path, tried before a model loads, named where they fail."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.factories import TASK, make_call, make_episode, make_group

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.known_code import named_code
from ajet.config.options import option
from ajet.config.saved import load, save, with_user_options
from ajet.errors import AlgorithmError, ConfigError
from ajet.records import EpisodeGroup, Replay
from ajet.train.algorithms.rule import LearningRule, learning_rule
from ajet.train.algorithms.trying import tried_rule

CODE = """
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from ajet.config.fields import ruled
from ajet.records import ReplayRequest
from ajet.train.algorithms.credit.base import CreditRule, Pool
from ajet.train.algorithms.credit.critic import Critic, CriticConfig

Path(__file__).with_suffix(".ran").touch()

@dataclass
class Settings:
    bonus: float = ruled(1.0, at_least=0)

class Bonus(CreditRule):  # the last episode gets more
    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.num_steps = 0

    def begin_step(self, tasks):
        self.num_steps += 1

    def pools(self, outcomes):
        last = outcomes[-1]
        yield Pool(outcomes=[*outcomes[:-1], replace(last, reward=last.reward + self.config.bonus)])

    def state_dict(self):
        return {"num_steps": self.num_steps}

    def load_state_dict(self, state):
        self.num_steps = state["num_steps"]

class Twice(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=outcomes)] * 2

class Raises(CreditRule):
    def pools(self, outcomes):
        yield outcomes[99]

class NoPools(CreditRule):
    def pools(self, outcomes):
        return [outcomes]

class Nothing(CreditRule):
    def pools(self, outcomes):
        pass

class Strangers(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=[replace(outcomes[0], agent="nobody"), *outcomes])]

class Renamed(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=[replace(one, tag="all") for one in outcomes])]

class Infinite(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=[replace(one, reward=float("inf")) for one in outcomes])]

class NoBaseline(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=outcomes, baseline=float("nan"))]

class Others(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=[replace(outcomes[1], calls=outcomes[0].calls), *outcomes[1:]])]

class Reads(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=[[one for one in outcomes for call in one.calls if "move" in call.reply][99]])]

class Unkept(CreditRule):
    def pools(self, outcomes):
        return [Pool(outcomes=outcomes)]

    def state_dict(self):
        return {"seen": {1, 2}}

class Again(CreditRule):
    asks_opponent = True

    def replays(self, groups, rng):
        for group in groups:
            for episode in group.episodes:
                yield ReplayRequest(episode=episode, replaced_tag=next(iter(episode.agent_tags.values())))

    def pools(self, outcomes):
        return [Pool(outcomes=[replace(one, reward=one.reward - len(one.replays)) for one in outcomes])]

class AsksForNothing(Again):
    def replays(self, groups, rng):
        return [groups[9]]

class NotOne:
    pass

class Lowered(Critic):  # values that expect a little less
    def __init__(self, config: CriticConfig) -> None:
        super().__init__(config)

    def value_targets(self, outcomes):
        return {key: target - 0.5 for key, target in super().value_targets(outcomes).items()}

class Loses(Lowered):
    def value_targets(self, outcomes):
        raise ValueError("no targets")

@dataclass
class SaysSo:
    has_values: ClassVar[bool] = True

class Half(CreditRule):
    def __init__(self, config: SaysSo) -> None:
        super().__init__(config)

    def pools(self, outcomes):
        return [Pool(outcomes=outcomes)]

class OtherSettings(Critic):
    def __init__(self, config: Settings) -> None:
        super().__init__(config)

class OtherRule(CreditRule):
    def __init__(self, config: CriticConfig) -> None:
        super().__init__(config)

    def pools(self, outcomes):
        return [Pool(outcomes=outcomes)]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credits.py"
    path.write_text(CODE)
    return path


def rule_of(file: Path, name: str, **settings: Any) -> LearningRule:
    return tried_rule(AlgorithmConfig(advantage="dr_grpo"), option("credit", f"{file}->{name}")(**settings))


def test_a_rule_has_settings_and_a_call_in_two_pools_the_sum(file: Path) -> None:
    # Totals 0 and 1 + 3: baseline 2.
    rule = rule_of(file, "Bonus", bonus=3.0)
    assert rule.group_advantages(make_group(0, 1)).of_agents == {(0, "P1"): -2.0, (1, "P1"): 2.0}
    twice = rule_of(file, "Twice").group_advantages(make_group(0, 1))
    assert twice.of_agents == {(0, "P1"): -1.0, (1, "P1"): 1.0} and twice.num_pools == {"seer": 2}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Raises", "credit=FILE->Raises: IndexError: list index out of range (FILE:"),
        ("NoPools", "credit=FILE->NoPools: pools gave [Outcome("),
        ("Nothing", "credit=FILE->Nothing: pools gave NoneType, not a list of Pool"),
        ("Strangers", "credit=FILE->Strangers: a pool credits nobody, who has no reward in episode 0"),
        ("Renamed", "credit=FILE->Renamed: a pool has agent as 'all' in episode 0: keep its tag"),
        ("Infinite", "credit=FILE->Infinite: a pool has the reward inf for agent: it must be finite"),
        ("NoBaseline", "credit=FILE->NoBaseline: a pool has the baseline nan: it must be finite"),
        ("Others", "credit=FILE->Others: a pool credits agent in episode 1 for calls of another"),
        ("NotOne", "credit=FILE->NotOne: NotOne has no pools; it needs pools, begin_step, state_dict, load_state"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence_that_names_it(file: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        rule_of(file, name)
    assert words.replace("FILE", str(file)) in str(error.value) and "\n" not in str(error.value)


def test_a_rule_is_not_judged_by_what_it_makes_of_invented_calls(file: Path) -> None:
    rule = rule_of(file, "Reads")
    with pytest.raises(AlgorithmError, match=r"credit=.*Reads: IndexError"):
        rule.group_advantages(make_group(0, 1))


def test_what_a_rule_keeps_is_kept_and_restored_if_a_checkpoint_can_hold_it(file: Path) -> None:
    rule, resumed = rule_of(file, "Bonus"), rule_of(file, "Bonus")
    assert rule.state_dict() == {"num_steps": 0}, "the rule that was tried is another one"
    rule.group_advantages(make_group(0, 1))
    resumed.load_state_dict(rule.state_dict())
    assert resumed.state_dict() == {"num_steps": 1}
    resumed.load_state_dict({})  # of a checkpoint that holds none
    assert resumed.state_dict() == {"num_steps": 1} and learning_rule(AlgorithmConfig()).state_dict() == {}
    with pytest.raises(AlgorithmError, match=r"credit=.*Unkept: state_dict must give JSON's types"):
        rule_of(file, "Unkept").state_dict()


def test_a_run_records_its_rule_and_an_evaluation_does_not_run_it(file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    chosen = [f"credit={file}->Bonus", "credit.bonus=2"]
    config = compose(["workflow=signals", "trainable_targets=[speaker]", *chosen], run_dir=run)
    save(config, run / "config.yaml")
    assert f"credit.name={file}->Bonus" in named_code(config)
    assert f"credit.name={file}->Bonus" not in named_code(config, training=False)
    assert with_user_options(load(run)).credit == config.credit
    file.with_suffix(".ran").unlink()
    file.write_text(CODE + "raise RuntimeError")
    assert with_user_options(load(run), training=False).credit.name == f"{file}->Bonus"
    assert not file.with_suffix(".ran").exists()


def test_a_rule_may_ask_for_replays_and_is_tried_without_any(file: Path) -> None:
    group, rule = make_group(0, 1), rule_of(file, "Again")
    requests = rule.replay_requests([group], random.Random(0))
    assert [(one.episode.repeat, one.replaced_tag) for one in requests] == [(0, "seer"), (1, "seer")]
    replays = [Replay(request=requests[1], episode=group.episodes[1], is_reproduced=True)]
    # Rewards 0 and 1 - 1.
    assert rule.group_advantages(group, replays).num_zero_std == {"seer": 1}
    config = option("credit", f"{file}->Again")()
    assert config.plays_again and config.asks_opponent
    assert not option("credit", f"{file}->Bonus")().plays_again
    with pytest.raises(ConfigError, match=r"AsksForNothing: IndexError.*credits.py:\d+"):
        rule_of(file, "AsksForNothing")


def test_a_rule_that_extends_the_critic_has_its_value_head(file: Path) -> None:
    config = compose(
        ["workflow=signals", f"credit={file}->Lowered", "algorithm.advantage=dr_grpo", "credit.value_coef=0.25"],
        run_dir="x",
    )
    rule = tried_rule(config.algorithm, config.credit)
    assert rule.critic is not None and rule.critic.value_coef == 0.25
    call = make_call((1,), (2,))
    group = EpisodeGroup(task=TASK, episodes=tuple(make_episode(i, {"P1": float(i)}, call) for i in range(2)))
    targets = rule.value_targets([group], call_costs={}, call_values={})
    assert targets == {("t", 0, 0): -0.5, ("t", 1, 0): 0.5}
    with pytest.raises(AlgorithmError, match=r"Loses: ValueError: no targets"):
        rule_of(file, "Loses").value_targets([group], call_costs={}, call_values={})


@pytest.mark.parametrize("name", ["Half", "OtherSettings", "OtherRule"])
def test_a_rule_with_half_of_what_a_value_head_needs_is_refused(file: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: a value head is trained .* Critic, .* CriticConfig .* has_values"):
        compose(["workflow=signals", f"credit={file}->{name}", "algorithm.advantage=dr_grpo"], run_dir="x")
