"""What the groups `algorithm` and `credit` name, tried on small examples before a model loads.

In: the groups. Out: its `LearningRule`, another one than was tried, for a rule of the user's may keep what it has seen;
or an error that names the setting. Left out: what only real calls can show. What the calls of an example say is
invented, and a rule that has read it is not judged by what it made of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from ajet.config.algorithm import AlgorithmConfig
from ajet.errors import AlgorithmError, ConfigError
from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.train.algorithms.credit.base import CreditConfig, CreditRule, Outcome
from ajet.train.algorithms.options import Option
from ajet.train.algorithms.outcomes import Outcomes
from ajet.train.algorithms.pools import Credit
from ajet.train.algorithms.rule import LearningRule, learning_rule
from ajet.train.algorithms.tokens import example_tokens
from ajet.train.algorithms.weights import BatchTotals

_INVENTED = (
    *("agent_name", "target_tag", "messages", "reply", "format_error", "finish_reason", "policy_version"),
    "reward",
)
"""Fields of a call that mean something in a real one alone."""


def tried_rule(
    algorithm: AlgorithmConfig, credit: CreditConfig | None = None, *, max_tokens: int | None = None
) -> LearningRule:
    """What the groups name, loaded, and known to work on what any batch has.

    Raises:
        ConfigError: as `learning_rule`, or what it does on a small example.
    """
    tried = learning_rule(algorithm, credit, max_tokens=max_tokens)
    try:
        _try_loss(tried)
        if tried.advantage.is_own or tried.crediting.is_own:
            _try_credit(tried)
        tried.weight(3, BatchTotals(num_sequences=2, num_tokens=8, tokens_by_tag={"a": 8}, num_tag_tokens=8))
    except AlgorithmError as error:
        raise ConfigError(str(error)) from error
    return learning_rule(algorithm, credit, max_tokens=max_tokens)


def _try_loss(rule: LearningRule) -> None:
    """Refuse a loss that has no gradient, or is not finite, on tokens such as any batch has."""
    tokens = example_tokens()
    loss, *_ = rule.token_losses(tokens)
    if not loss.requires_grad:
        raise AlgorithmError(f"{rule.loss.setting} does not depend on tokens.logp, so that it has no gradient")
    loss.sum().backward()  # type: ignore[no-untyped-call]
    for what, values in (("a loss", loss), ("a gradient", tokens.logp.grad)):
        if values is None or not bool(torch.isfinite(values).all()):
            raise AlgorithmError(f"{rule.loss.setting} has {what} that is not finite for ordinary tokens")


def _try_credit(rule: LearningRule) -> None:
    """Refuse a credit rule or an advantage that raises, or gives something else than finite numbers, for a group as any
    task has."""
    read: set[str] = set()
    read_by_user: set[str] = set()

    @contextmanager
    def noting(option: Option) -> Iterator[None]:
        read.clear()  # what is read before the user's code is asked, ajet reads
        try:
            yield
        finally:
            read_by_user.update(read if option.is_own else ())

    class Noting(CreditRule):
        @override
        def replays(self, groups: Sequence[EpisodeGroup], rng: random.Random) -> Any:
            with noting(rule.crediting):
                given: Any = rule.credit.replays(groups, rng)
                return list(given) if isinstance(given, Iterable) else given

        @override
        def begin_step(self, tasks: Sequence[Sequence[Outcome]]) -> None:
            with noting(rule.crediting):
                rule.credit.begin_step(tasks)

        @override
        def pools(self, outcomes: Sequence[Outcome]) -> Any:
            with noting(rule.crediting):
                given: Any = rule.credit.pools(outcomes)
                return list(given) if isinstance(given, Iterable) else given

    def advantage(outcomes: Outcomes) -> list[Credit]:
        with noting(rule.advantage):
            return list(rule.advantage.function(outcomes))

    trying = replace(rule, credit=Noting(None), advantage=replace(rule.advantage, function=advantage))
    try:
        group = example_group(read.add)
        trying.replay_requests([group], random.Random(0))  # none of them comes to anything, as may happen in a run
        given = trying.group_advantages(group)
        values = [value for calls in given.of_tokens.values() for tokens in calls.values() for value in tokens]
        if not all(map(math.isfinite, values)):
            raise AlgorithmError(f"{rule.advantage.setting} gives advantages that are not finite for ordinary rewards")
    except AlgorithmError:
        if not read_by_user:
            raise


def example_group(on_read: Callable[[str], None]) -> EpisodeGroup:
    """Four episodes of one agent with one to three calls of one to three tokens, to try an advantage on.

    Args:
        on_read: is told the name of each invented field of a call that is read.
    """

    class ExampleCall(Call):
        def __getattribute__(self, name: str) -> Any:
            if name in _INVENTED:
                on_read(name)
            return super().__getattribute__(name)

    def call(index: int, num_tokens: int) -> Call:
        return ExampleCall(
            index=index,
            agent_name="agent",
            target_tag="tag",
            trained=True,
            messages=({"role": "user", "content": "Go on?"},),
            reply="Yes.",
            prompt_ids=(1, 2, 3),
            sampled_ids=(4,) * num_tokens,
            logprobs=(-0.5,) * num_tokens,
        )

    rewards, nums_tokens = (0.0, 1.0, 0.5, 0.0), ((2, 1), (3,), (1, 2, 1), (2,))
    return EpisodeGroup(
        task=Task(task_id="example"),
        episodes=tuple(
            Episode(
                task=Task(task_id="example"),
                repeat=repeat,
                status="ok",
                rewards={"agent": reward},
                agent_tags={"agent": "tag"},
                calls=tuple(call(index, num) for index, num in enumerate(nums)),
            )
            for repeat, (reward, nums) in enumerate(zip(rewards, nums_tokens, strict=True))
        ),
    )
