"""Parts of a run that were chosen and that its workflow never asks: found out by play, and said once.

Left out: what the configuration alone can tell, which is refused before anything loads (`ajet.config.unused`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ajet.records import Episode
from ajet.rollout.judges.base import BaseJudge, JudgeConfig
from ajet.workflow import WorkflowOutput, WorkflowTask


class _CountingJudge(BaseJudge):
    """Answers as another judge does, and counts how often."""

    def __init__(self, config: JudgeConfig, judge: BaseJudge) -> None:
        super().__init__(config)
        self._judge = judge
        self.num_asked = 0

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        self.num_asked += 1
        return self._judge.compute_reward(workflow_task, workflow_output)


class UnusedParts:
    """Watches the first episode that comes to its end."""

    def __init__(
        self,
        config: JudgeConfig,
        judge: BaseJudge | None,
        *,
        opponent: str | None,
        target_tags: Sequence[str] | None,
        say: Callable[[str], None],
    ) -> None:
        """Begin to watch.

        Args:
            config: the judge's.
            judge: what it built.
            opponent: the chosen option's name; None: it is asked in any case.
            target_tags: the workflow's; None or none where they are not known.
            say: is called with a line for each part that was not asked.
        """
        self._config = config
        self._opponent, self._target_tags = opponent, target_tags
        self._say = say
        self._seen = False
        self.judge = None if judge is None else _CountingJudge(config, judge)
        """To be asked in the judge's place."""

    def episode(self, episode: Episode) -> None:
        """Look at an episode; only the first that is `ok` matters."""
        if self._seen or episode.status != "ok":
            return
        self._seen = True
        if self.judge is not None and not self.judge.num_asked:
            self._say(
                f"warning: judge={self._config.name} has no effect so far: the workflow returned a reward of its "
                "own; return WorkflowOutput(reward=None) to ask the judge, or drop it"
            )
        # With tags the configuration knows who is not trained; without them the opponent is a wish, not a default.
        all_trained = bool(episode.calls) and all(call.trained for call in episode.calls)
        if not self._target_tags and self._opponent not in (None, "workflow") and all_trained:
            self._say(
                f"warning: opponent={self._opponent} has no effect so far: every agent that spoke is trained; name "
                "trainable_targets, or drop it"
            )
