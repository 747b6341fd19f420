"""Episodes as text for who wrote the workflow: each call as it happens, rewards, failures with their own lines.

Written to the terminal and to a file at once; plain lines without a live display, so that a debugger can talk there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ajet.config.user_code.lines import user_traceback
from ajet.records import Call, Episode, Task
from ajet.tracking.files.writing import writing
from ajet.tracking.text import last_message_text, rewards_text

PROMPT_TAIL = 400
"""Characters shown of a call's last message."""


class Transcript:
    """Hears of calls, failures and episodes, and tells them in order."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        """`path` gets everything that `say` says."""
        self._say = say
        self._path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")

    def call(self, task: Task, repeat: int, call: Call) -> None:
        """Who was asked what, and what it said."""
        role = "policy" if call.trained else "not trained"
        self._tell(f"\n[{_name(task, repeat)} #{call.index}] {call.agent_name} ({call.target_tag}, {role})")
        self._tell(_indented(prompt_tail(call.messages), "  | "))
        self._tell(_indented(call.reply, "  > "))
        if call.sampled_ids:
            total = sum(call.logprobs)
            self._tell(
                f"  {len(call.prompt_ids)} prompt tokens, {len(call.sampled_ids)} sampled, log-probability {total:.2f} "
                f"({total / len(call.sampled_ids):.2f} a token), finished by {call.finish_reason}"
            )
        if call.format_error is not None:
            self._tell(f"  format error: {call.format_error}")

    def failure(self, task: Task, repeat: int, error: BaseException) -> None:
        """The traceback, from the user's code on."""
        self._tell(f"\n[{_name(task, repeat)}] failed")
        self._tell(_indented(user_traceback(error), "  "))

    def episode(self, episode: Episode) -> None:
        """Tell how an episode ended: status, reward, calls and seconds, and what of it deserves a word."""
        rewards = rewards_text(episode.rewards) or "none"
        success = {True: ", success", False: ", no success", None: ""}[episode.is_success]
        self._tell(
            f"\n[{_name(episode.task, episode.repeat)}] {episode.status}{success}; reward {rewards}; "
            f"{len(episode.calls)} calls in {episode.duration_s:.1f} s"
        )
        if given := [f"#{call.index} {call.agent_name} {call.reward:g}" for call in episode.calls if call.reward]:
            self._tell(f"  rewards of single replies, part of these: {'  '.join(given)}")
        if episode.error is not None:
            self._tell(f"  {episode.error}")
        if episode.usable:
            for name in episode.uncalled_agents:
                self._tell(f"  {name} ({episode.agent_tags[name]}) was handed out and never asked")
        if episode.num_undelivered_calls:
            self._tell(f"  {episode.num_undelivered_calls} requests whose reply was not received: not recorded")
        if episode.log_metrics:
            self._tell("  " + "  ".join(f"{name} {value:g}" for name, value in episode.log_metrics.items()))

    def close(self) -> None:
        """Close the file; nothing can be told after it."""
        self._file.close()

    def _tell(self, text: str) -> None:
        self._say(text)
        with writing(self._path):
            self._file.write(text + "\n")
            self._file.flush()


def prompt_tail(messages: Sequence[Mapping[str, Any]]) -> str:
    """The end of the last message, its role first."""
    if not messages:
        return ""
    return f"{messages[-1].get('role', '')}: {last_message_text(messages, most=PROMPT_TAIL)}"


def _name(task: Task, repeat: int) -> str:
    return f"{task.task_id}/{repeat}" if repeat else task.task_id


def _indented(text: str, margin: str) -> str:
    return "\n".join(margin + line for line in text.rstrip("\n").split("\n"))
