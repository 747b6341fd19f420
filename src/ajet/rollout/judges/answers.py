"""Judges that compare an output's answer with the task's: as text, by what it contains, as mathematics."""

from __future__ import annotations

import re
import string
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ajet.config.fields import named
from ajet.errors import ConfigError, WorkflowError, require_extra
from ajet.records import Task
from ajet.rollout.judges.base import AnswerConfig, BaseJudge
from ajet.rollout.judges.effort import is_short, is_small

if TYPE_CHECKING:
    from ajet.workflow import WorkflowOutput, WorkflowTask

_TIMEOUT_S = 5
# ASCII alone: words of scripts without spaces stand next to each other.
_ALPHANUMERIC = frozenset(string.ascii_letters + string.digits)
_NOT_AFTER = r"(?<![0-9A-Za-z])(?<![0-9][.,])"
_NOT_BEFORE = r"(?![0-9A-Za-z]|[.,][0-9])"
# Part of another number: behind a sign, in a fraction, power or ratio, as per cent, or in groups of digits.
_NUMBER_NOT_AFTER = r"(?<![-/^\u2013])(?<!/ )(?<![0-9]:)"
_NUMBER_NOT_BEFORE = r"(?! ?/ ?[0-9]|\^|:[0-9]| ?\\?%| [0-9]{3}(?![0-9]))"
_THREE_DIGITS_NOT_AFTER = r"(?<![0-9] )"


@dataclass
class ComparisonConfig(AnswerConfig):
    """What judges share that compare with the task's answer."""

    needs_reference: ClassVar[bool] = True

    @override
    def check_task(self, task: Task, place: str) -> None:
        value = task.metadata.get(self.reference)
        if value is None or not str(value).strip():
            raise ConfigError(
                f"{place}: judge={self.name} needs metadata[{self.reference!r}] (judge.reference); "
                f"it has {', '.join(name for name, known in task.metadata.items() if known is not None) or 'nothing'}"
            )


@dataclass
class TextComparisonConfig(ComparisonConfig):
    """What judges share that compare texts."""

    ignore_case: bool = True
    """Whether case does not matter."""


@dataclass
class ExactMatchConfig(TextComparisonConfig):
    """The same text, white space aside."""

    name: str = named("exact_match")

    @override
    def build(self, *, run_config: object, run_dir: Path) -> ExactMatch:
        return ExactMatch(self)


@dataclass
class ContainsConfig(TextComparisonConfig):
    """The right answer stands somewhere in the given one."""

    name: str = named("contains")

    @override
    def build(self, *, run_config: object, run_dir: Path) -> Contains:
        return Contains(self)


@dataclass
class BoxedMathConfig(ComparisonConfig):
    """The last boxed answer is mathematically the right one."""

    name: str = named("boxed_math")

    needs_extras: ClassVar[tuple[str, ...]] = ("math",)

    @override
    def build(self, *, run_config: object, run_dir: Path) -> BoxedMath:
        return BoxedMath(self)


def given_answer(judge: AnswerConfig, output: WorkflowOutput) -> str:
    """The answer that the workflow found.

    Raises:
        WorkflowError: its metadata has none under that key.
    """
    if judge.given not in output.metadata:
        raise WorkflowError(
            f"judge={judge.name} reads metadata[{judge.given!r}] of the workflow's output (judge.given); "
            f"it has {', '.join(map(str, output.metadata)) or 'nothing'}."
        )
    answer = output.metadata[judge.given]
    return "" if answer is None else str(answer)


def right_answer(judge: AnswerConfig, workflow_task: WorkflowTask) -> str:
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
        agrees = self.agree(given_answer(self.config, workflow_output), right_answer(self.config, workflow_task))
        return float(agrees), agrees

    def agree(self, given: str, right: str) -> bool:
        """Whether an answer counts as right."""
        raise NotImplementedError


class TextJudge(AnswerJudge):
    """Compares texts."""

    def normal(self, text: str) -> str:
        """A text as it is compared: white space in one form, case as configured."""
        joined = " ".join(text.split())
        return joined.casefold() if self.config.ignore_case else joined


class ExactMatch(TextJudge):
    """The same text, white space aside."""

    @override
    def agree(self, given: str, right: str) -> bool:
        return self.normal(given) == self.normal(right)


class Contains(TextJudge):
    """The right answer stands somewhere in the given one, as a word or number: 4 stands in no 14, 2.4, -4 or 1/4."""

    @override
    def agree(self, given: str, right: str) -> bool:
        wanted, said = (self.normal(text).replace("\u2212", "-") for text in (right, given))
        before = _NOT_AFTER if wanted[0] in _ALPHANUMERIC or re.match("-[0-9]", wanted) else ""
        behind = _NOT_BEFORE if wanted[-1] in _ALPHANUMERIC else ""
        if re.match("[0-9]", wanted):
            before += _NUMBER_NOT_AFTER + (_THREE_DIGITS_NOT_AFTER if re.match("[0-9]{3}(?![0-9])", wanted) else "")
        if re.search("[0-9]$", wanted):
            behind += _NUMBER_NOT_BEFORE
        return re.search(f"{before}{re.escape(wanted)}{behind}", said) is not None


class BoxedMath(AnswerJudge):
    """The last boxed answer is mathematically the right one, by math-verify.

    A reference without a box is read as a whole, or from `####` on, GSM8K's way to mark an answer. An answer that would
    take long to work out (`ajet.rollout.judges.effort`) is wrong.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As any judge.

        Raises:
            MissingExtraError: math-verify is not installed.
        """
        require_extra("math", needed_by="judge=boxed_math")
        super().__init__(*args, **kwargs)

    @override
    def agree(self, given: str, right: str) -> bool:
        from math_verify import LatexExtractionConfig, verify

        boxes = [LatexExtractionConfig(boxed_match_priority=0)]
        if "\\boxed" not in given:
            return False
        answer = _parse(_last_box(given), boxes)
        marked = right.rpartition("####")[2].strip()
        reference = _parse(right if "\\boxed" in right else f"\\boxed{{{marked}}}", boxes)
        if not reference:
            raise WorkflowError(f"judge=boxed_math cannot read the right answer {right!r} as short mathematics.")
        return bool(answer) and bool(verify(reference, answer, timeout_seconds=_timeout()))


def _last_box(text: str) -> str:
    """The last `\\boxed{…}`, or all that follows where no bracket closes it."""
    box, level = text[text.rindex("\\boxed") :], 0
    for place, character in enumerate(box):
        level += (character == "{") - (character == "}")
        if character == "}" and level == 0:
            return box[: place + 1]
    return box


def _parse(text: str, boxes: Any) -> Any:
    """What the library read; nothing where it would take long to read or to work out."""
    from math_verify import parse

    if not is_short(text):
        return []
    read = parse(text, extraction_config=boxes, parsing_timeout=_timeout())
    return read if all(isinstance(part, str) or is_small(part) for part in read) else []


def _timeout() -> int | None:
    """The library's limit works by signals, which only the main thread gets; that is where episodes are judged."""
    return _TIMEOUT_S if threading.current_thread() is threading.main_thread() else None
