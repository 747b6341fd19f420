"""What a user reads of an episode."""

from __future__ import annotations

from pathlib import Path

from tests.factories import TASK, make_call, make_episode

from ajet.tracking.transcript import PROMPT_TAIL, Transcript, prompt_tail


def test_only_the_end_of_a_long_prompt_is_shown() -> None:
    long = [{"role": "system", "content": "s"}, {"role": "user", "content": "x" * 1000 + "end"}]
    assert prompt_tail(long).startswith("user: …x") and prompt_tail(long).endswith("xend")
    assert len(prompt_tail(long)) == PROMPT_TAIL + len("user: …")
    blocks = [{"role": "tool", "content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}]
    assert prompt_tail(blocks) == "tool: 4\n2" and prompt_tail([]) == ""


def test_format_errors_and_failures_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    transcript = Transcript(tmp_path / "new" / "t.txt", said.append)
    transcript.call(TASK, 1, make_call((1, 2), (3,), format_error="no JSON"))
    transcript.episode(make_episode(1, {"P1": 1.0}))
    transcript.close()
    told = "\n".join(said)
    assert "format error: no JSON" in told and "2 prompt tokens, 1 sampled, log-probability -1.00" in told
    assert "ok; reward P1 1" in told and (tmp_path / "new" / "t.txt").read_text() == told + "\n"


def test_a_trained_agent_that_was_never_asked_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    transcript = Transcript(tmp_path / "t.txt", said.append)
    transcript.episode(make_episode(0, {"P1": 1.0, "P2": 1.0}, make_call((1,), (2,), agent="P1")))
    transcript.close()
    assert "P2 (seer) was handed out and never asked" in said[-1] and "P1 (seer)" not in "".join(said)
