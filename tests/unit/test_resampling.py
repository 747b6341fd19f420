"""Dynamic sampling: groups that would teach nothing are replaced by groups of other tasks (`rollout.max_resamples`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from recipes.small_models.tokenizer import train_tokenizer
from tests.episodes import ASK, Run, Share
from tests.factories import make_call, make_episode, make_group
from transformers import PreTrainedTokenizerBase

from ajet.config.algorithm import AlgorithmConfig
from ajet.config.compose import compose
from ajet.config.groups import EvalConfig, RolloutConfig
from ajet.config.options import option
from ajet.data.listed import ListedTasks
from ajet.data.seeds import SeedTasks
from ajet.data.source import TaskSource
from ajet.errors import ConfigError
from ajet.records import EpisodeGroup, Task
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.console import Display
from ajet.train.algorithms.rule import learning_rule
from ajet.train.clock import PhaseClock
from ajet.train.play import Play, PlayedStep, step_candidates
from ajet.train.ranks import ALONE, Ranks
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow, WorkflowOutput, WorkflowTask

SEEDS = SeedTasks(run_seed=1)
FEW = ListedTasks(train=[Task(task_id=str(i)) for i in range(12)], held_out=[], run_seed=1, shuffle=True)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Speak."], vocab_size=280, max_context=256)


def lost(task: Task) -> bool:
    """By all who play it: about half of the tasks are."""
    return bool(task.metadata["random_number"] % 2)


class Half(Workflow):
    """An episode of a lost task gets 0, of the others every second one 1."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client(agent_name="P1", target_tag="seer")
        await client.chat.completions.create(model="policy", messages=ASK)
        won = not lost(workflow_task.task) and workflow_task.repeat % 2
        return WorkflowOutput(reward=float(won))


class Bar(Display):
    """Counts what a bar would show."""

    def __init__(self) -> None:
        self.num_expected = 0

    def phase(self, name: str, num_items: int = 0) -> None:
        self.num_expected = num_items

    def expect(self, num_items: int) -> None:
        self.num_expected += num_items


@contextmanager
def playing(
    tokenizer: PreTrainedTokenizerBase,
    *,
    resamples: int,
    ranks: Ranks = ALONE,
    display: Display | None = None,
    on_group: Callable[[EpisodeGroup], None] | None = None,
) -> Iterator[Play]:
    run = Run(tokenizer)
    with RolloutRuntime() as runtime:
        yield Play(
            rollout=RolloutConfig(num_tasks=4, group_size=2, max_resamples=resamples),
            eval=EvalConfig(num_tasks=2),
            total_steps=5,
            tasks=SEEDS,
            runtime=runtime,
            scheduler=run.scheduler(Half),
            ranks=ranks,
            display=display or Display(),
            clock=PhaseClock(),
            teaches=learning_rule(AlgorithmConfig()).teaches,
            on_group=on_group,
        )


def names(groups: Sequence[EpisodeGroup]) -> list[str]:
    return [group.task.task_id for group in groups]


def expected(step: int, resamples: int) -> list[list[Task]]:
    """What is played in each place, by hand: until a task is not lost, or none is left."""
    played = []
    for tasks in step_candidates(SEEDS, step, RolloutConfig(num_tasks=4, max_resamples=resamples)):
        won = [i for i, task in enumerate(tasks) if not lost(task)]
        played.append(list(tasks[: won[0] + 1 if won else None]))
    return played


def test_a_group_is_replaced_until_one_teaches_something(tokenizer: PreTrainedTokenizerBase) -> None:
    wanted, told, bar = expected(0, 4), list[str](), Bar()
    assert sum(map(len, wanted)) > 4 and not any(lost(tasks[-1]) for tasks in wanted), "the seed has made it easy"
    with playing(tokenizer, resamples=4, display=bar, on_group=lambda group: told.append(group.task.task_id)) as play:
        step = play.training_step(0)
        assert names(step.groups) == [tasks[-1].task_id for tasks in wanted]
        assert names(step.replaced) == [task.task_id for tasks in wanted for task in tasks[:-1]]
        assert sorted(told) == sorted(names(step.groups)), "of what is not trained on nobody is told"
        assert play.resampling_metrics(step) == {"group/resampled": len(step.replaced), "group/still_silent": 0.0}
        assert bar.num_expected == 2 * len(step.played)


def test_the_last_group_stays_where_all_were_silent(tokenizer: PreTrainedTokenizerBase) -> None:
    wanted = expected(0, 1)
    with playing(tokenizer, resamples=1) as play:
        step = play.training_step(0)
        assert names(step.groups) == [tasks[-1].task_id for tasks in wanted]
        silent = sum(lost(tasks[-1]) for tasks in wanted)
        assert play.resampling_metrics(step)["group/still_silent"] == silent > 0


def test_nothing_is_replaced_unless_that_is_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    with playing(tokenizer, resamples=0) as play:
        step = play.training_step(0)
        assert names(step.groups) == [task.task_id for task in SEEDS.train_tasks(0, 4)] and not step.replaced
        assert play.resampling_metrics(step) == {}


def test_two_processes_play_what_one_would(tokenizer: PreTrainedTokenizerBase) -> None:
    def calls(step: PlayedStep) -> dict[str, Any]:
        return {group.task.task_id: [e.calls for e in group.episodes] for group in step.played}

    with playing(tokenizer, resamples=3) as play:
        alone = play.training_step(1)
    shares = []
    for rank in range(2):
        with playing(tokenizer, resamples=3, ranks=Share(rank=rank, size=2)) as play:
            shares.append(play.training_step(1))
    for rank, share in enumerate(shares):
        assert names(share.groups) == names(alone.groups)[rank::2]
    assert calls(shares[0]) | calls(shares[1]) == calls(alone)


@pytest.mark.parametrize("source", [SEEDS, FEW, replace(FEW, shuffle=False)])
def test_no_task_stands_twice_in_a_step_and_its_own_are_as_without(source: TaskSource) -> None:
    for step in range(7):
        candidates = step_candidates(source, step, RolloutConfig(num_tasks=3, max_resamples=3))
        assert [tasks[0] for tasks in candidates] == source.train_tasks(step, 3)
        ids = [task.task_id for tasks in candidates for task in tasks]
        assert len(set(ids)) == len(ids) == 12


def test_other_steps_and_their_replacements_share_no_seed() -> None:
    rollout = RolloutConfig(num_tasks=3, max_resamples=2)
    ids = [task.task_id for step in range(20) for tasks in step_candidates(SEEDS, step, rollout) for task in tasks]
    assert len(set(ids)) == len(ids) == 20 * 9


def test_a_group_teaches_where_the_credit_rule_finds_a_difference() -> None:
    def teaches(group: EpisodeGroup, credit: str = "per_tag", **settings: Any) -> bool:
        return learning_rule(AlgorithmConfig(**settings), option("credit", credit)()).teaches(group)

    assert teaches(make_group(0, 1)) and not teaches(make_group(1, 1)) and not teaches(make_group(1))
    malformed = make_call((1,), (2,), format_error="no JSON")
    priced = replace(make_group(1, 1), episodes=(make_episode(0, {"P1": 1.0}, malformed), make_episode(1, {"P1": 1.0})))
    assert teaches(priced, format_penalty=0.1) and not teaches(priced)
    # Each got the same in both episodes: with a baseline an agent there is nothing to learn.
    tags = {"P1": "wolf", "P2": "wolf"}
    steady = replace(priced, episodes=tuple(make_episode(i, {"P1": 0.0, "P2": 1.0}, tags=tags) for i in range(2)))
    assert teaches(steady) and not teaches(steady, "per_agent")


SIGNALS = ["workflow=signals", "trainable_targets=[speaker]", "rollout.max_resamples=2", "rollout.num_tasks=4"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["credit=rae"], r"rollout\.max_resamples=2 .*credit=rae"),
        (["credit=difference"], r"rollout\.max_resamples=2 .*credit=difference its replays tell"),
        (["credit=counterfactual"], r"rollout\.max_resamples=2 .*credit=counterfactual its replays tell"),
        (["workflow.num_train_tasks=11"], r"rollout\.max_resamples=2 needs 12 .*workflow\.num_train_tasks=11"),
    ],
)
def test_what_does_not_go_with_resampling_is_refused(more: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*SIGNALS, *more], run_dir="x")
    compose(SIGNALS, run_dir="x")


def test_a_list_too_short_for_replacements_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"15 tasks .* 12 .*rollout\.max_resamples"):
        step_candidates(FEW, 0, RolloutConfig(num_tasks=3, max_resamples=4))
