"""Judges that compare an output's answer with the task's: as text, by what it contains, as mathematics."""

from __future__ import annotations

import re
import string
import threading
from typing import TYPE_CHECKING, Any

from ajet.errors import WorkflowError
from ajet.judges.base import BaseJudge
from ajet.workflow import WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from ajet.config.judge import JudgeConfig

_TIMEOUT_S = 5
# ASCII alone: words of scripts without spaces stand next to each other.
_ALPHANUMERIC = frozenset(string.ascii_letters + string.digits)
_NOT_AFTER = r"(?<![0-9A-Za-z])(?<![0-9][.,])"
_NOT_BEFORE = r"(?![0-9A-Za-z]|[.,][0-9])"


def given_answer(judge: JudgeConfig, output: WorkflowOutput) -> str:
    """The answer that the workflow found.

    Raises:
        WorkflowError: its metadata has none under that key.
    """
    if judge.given not in output.metadata:
        raise WorkflowError(
            f"judge={judge.name} reads metadata[{judge.given!r}] of the workflow's output (judge.given); "
            f"it has {', '.join(map(str, output.metadata)) or 'nothing'}."
        )
    return str(output.metadata[judge.given] or "")


def right_answer(judge: JudgeConfig, workflow_task: WorkflowTask) -> str:
    """The task's own answer.

    Raises:
        WorkflowError: its metadata has none under that key, or a blank one, with which everything would agree.
    """
    metadata = workflow_task.task.metadata
    right = metadata.get(judge.reference)
    if right is None or not str(right).strip():
        known = ", ".join(name for name in metadata if name != judge.reference) or "nothing else"
        raise WorkflowError(
            f"judge={judge.name} reads metadata[{judge.reference!r}] of task {workflow_task.task.task_id} "
            f"(judge.reference), which is {'blank' if judge.reference in metadata else 'not there'}; it has {known}."
        )
    return str(right)


class AnswerJudge(BaseJudge):
    """1 for an answer that agrees with the task's, else 0."""

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> tuple[float, bool]:
        """Compare the two."""
        settings = self.config.judge
        agrees = self.agree(given_answer(settings, workflow_output), right_answer(settings, workflow_task))
        return float(agrees), agrees

    def agree(self, given: str, right: str) -> bool:
        """Whether an answer counts as right."""
        raise NotImplementedError

    def normal(self, text: str) -> str:
        """A text as it is compared: white space in one form, case as configured."""
        joined = " ".join(text.split())
        return joined if self.config.judge.ignore_case is False else joined.casefold()


class ExactMatch(AnswerJudge):
    """The same text, white space aside."""

    def agree(self, given: str, right: str) -> bool:
        """See `AnswerJudge`."""
        return self.normal(given) == self.normal(right)


class Contains(AnswerJudge):
    """The right answer stands somewhere in the given one, as a word or number: 4 does not stand in 14 or 2.4."""

    def agree(self, given: str, right: str) -> bool:
        """See `AnswerJudge`."""
        wanted = self.normal(right)
        before = _NOT_AFTER if wanted[0] in _ALPHANUMERIC else ""
        behind = _NOT_BEFORE if wanted[-1] in _ALPHANUMERIC else ""
        return re.search(f"{before}{re.escape(wanted)}{behind}", self.normal(given)) is not None


class BoxedMath(AnswerJudge):
    """The last boxed answer is mathematically the right one, by math-verify.

    A reference without a box is read as a whole, or from `####` on, GSM8K's way to mark an answer. An answer that takes
    longer than five seconds to work out is wrong.
    """

    def agree(self, given: str, right: str) -> bool:
        """See `AnswerJudge`."""
        from math_verify import LatexExtractionConfig, verify

        boxes = [LatexExtractionConfig(boxed_match_priority=0)]
        if "\\boxed" not in given:
            return False
        answer = _parse(given[given.rindex("\\boxed") :], boxes)
        marked = right.rpartition("####")[2].strip()
        reference = _parse(right if "\\boxed" in right else f"\\boxed{{{marked}}}", boxes)
        if not reference:
            raise WorkflowError(f"judge=boxed_math cannot read the right answer {right!r} as mathematics.")
        return bool(answer) and bool(verify(reference, answer, timeout_seconds=_timeout()))


def _parse(text: str, boxes: Any) -> Any:
    from math_verify import parse

    return parse(text, extraction_config=boxes, parsing_timeout=_timeout())


def _timeout() -> int | None:
    """The library's limit works by signals, which only the main thread gets; that is where episodes are judged."""
    return _TIMEOUT_S if threading.current_thread() is threading.main_thread() else None
