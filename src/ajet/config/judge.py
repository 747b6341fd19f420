"""Who scores an episode whose workflow leaves the reward open."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled
from ajet.errors import ConfigError

COMPARING_JUDGES = ("exact_match", "contains", "boxed_math")
"""Judges that compare an answer with the task's own."""
_OWN: dict[str, tuple[str, ...]] = {
    "entry": ("python",),
    "own_thread": ("python",),
    "ignore_case": ("exact_match", "contains"),
    "base_url": ("llm",),
    "model": ("llm",),
    "api_key_env": ("llm",),
    "rubric": ("llm",),
    "temperature": ("llm",),
    "timeout_s": ("llm",),
    "max_retries": ("llm",),
    "max_score": ("llm", "python"),
    "success_score": ("llm", "python"),
    "given": (*COMPARING_JUDGES, "llm", "python"),
    "reference": (*COMPARING_JUDGES, "llm", "python"),
}
"""Settings that only some judges read; code of one's own is given the whole config."""


@dataclass
class JudgeConfig:
    """The judge group. It is asked where a workflow's output has reward None."""

    name: str = one_of("none", "none", "exact_match", "boxed_math", "contains", "python", "llm")
    """`exact_match`, `contains` and `boxed_math` compare with the task's answer, `python` is code of one's own, `llm` a
    language model with a rubric."""
    given: str = "final_answer"
    """Key of the answer in the output's metadata."""
    reference: str = "answer"
    """Key of the right answer in the task's metadata; `llm` does without where a task has none."""
    ignore_case: bool | None = None
    """`exact_match`, `contains`: whether case does not matter; null: it does not."""
    entry: str | None = None
    """`python`: a class with `compute_reward(workflow_task, workflow_output)`, or a function of the two, as
    `package.module:name` or `path/file.py->name`; either may be async."""
    own_thread: bool | None = None
    """`python`: whether each call runs on a thread, for a judge that waits for others or starts an event loop; null: it
    does not, which keeps runs of one seed alike. An async judge needs none."""
    base_url: str | None = None
    """`llm`: an OpenAI-compatible server."""
    model: str | None = None
    """`llm`: its name there."""
    api_key_env: str | None = None
    """`llm`: the environment variable that holds its key; null: no key."""
    rubric: str | None = None
    """`llm`: what makes an answer good; null: whether it is right and complete."""
    temperature: float | None = ruled(None, at_least=0)
    """`llm`: sampling temperature; null leaves it to the server."""
    max_score: float = ruled(10.0, above=0)
    """`llm`: the best score; the reward is score / max_score."""
    success_score: float = ruled(10.0, above=0)
    """`llm`: from this score on an episode is a success."""
    timeout_s: float = ruled(30.0, above=0)
    """`llm`: for one request."""
    max_retries: int = ruled(2, at_least=0)
    """`llm`: requests after the first, be it that one failed or that a reply had no score."""


def check_judge(judge: JudgeConfig, episode_timeout_s: float) -> None:
    """Refuse settings that the judge would ignore or lacks.

    Args:
        judge: the group.
        episode_timeout_s: `rollout.timeout_s`, within which the judge has to answer, too.

    Raises:
        ConfigError: what to change.
    """
    default = JudgeConfig()
    for setting, readers in _OWN.items():
        if getattr(judge, setting) != getattr(default, setting) and judge.name not in readers:
            raise ConfigError(f"judge.{setting} has no effect with judge={judge.name}: only judge={'|'.join(readers)}")
    needed = {"python": ("entry",), "llm": ("base_url", "model")}.get(judge.name, ())
    for setting in needed:
        if getattr(judge, setting) is None:
            raise ConfigError(f"judge={judge.name} needs judge.{setting}")
    if judge.success_score > judge.max_score:
        raise ConfigError(f"judge.success_score={judge.success_score:g} is above judge.max_score={judge.max_score:g}")
    longest_s = judge.timeout_s * (judge.max_retries + 1)
    if judge.name == "llm" and longest_s >= episode_timeout_s:
        raise ConfigError(
            f"judge.timeout_s={judge.timeout_s:g} for up to {judge.max_retries + 1} requests (judge.max_retries) is "
            f"{longest_s:g} s, and an episode has rollout.timeout_s={episode_timeout_s:g} s in all: choose less, or "
            "more for the episode"
        )
