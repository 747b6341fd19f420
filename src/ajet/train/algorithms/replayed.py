"""What a credit rule wants played again, checked, and what came of it, by episode. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ajet.records import EpisodeGroup, Replay, ReplayRequest


def check_requests(requests: object, groups: Sequence[EpisodeGroup]) -> list[ReplayRequest]:
    """What a credit rule asks for, if it can be played again.

    Args:
        requests: what the rule gave.
        groups: the step's.

    Raises:
        TypeError, ValueError: it cannot; the message says why.
    """
    if not isinstance(requests, list) or not all(isinstance(request, ReplayRequest) for request in requests):
        raise TypeError(f"replays gave {requests!r:.100}, not a list of ReplayRequest")
    played = {id(episode) for group in groups for episode in group.episodes if episode.usable}
    seen: set[tuple[int, tuple[str | int, ...]]] = set()
    for request in requests:
        episode, tag, call = request.episode, request.replaced_tag, request.resampled_call
        if id(episode) not in played:
            raise ValueError("replays asks for an episode that is not a usable one of the step")
        if (tag is None) == (call is None):
            raise ValueError("a ReplayRequest names either replaced_tag or resampled_call")
        if tag is not None and tag not in episode.agent_tags.values():
            raise ValueError(f"replays replaces {tag}, which is not trained in episode {episode.repeat}")
        if call is not None and not any(one.index == call and one.trained for one in episode.calls):
            raise ValueError(f"replays resamples call {call}, which is not a trained one of episode {episode.repeat}")
        if (id(episode), request.change) in seen:
            raise ValueError(
                f"replays asks twice for {request.change} of episode {episode.repeat}: number them by draw"
            )
        seen.add((id(episode), request.change))
    return requests


def usable_replays(replays: Sequence[Replay]) -> Mapping[str, Mapping[int, Sequence[Replay]]]:
    """Those that can be used, by the task and repeat of their episode; any task may be asked for."""
    found: dict[str, dict[int, list[Replay]]] = defaultdict(lambda: defaultdict(list))
    for replay in replays:
        if replay.usable:
            found[replay.request.episode.task.task_id][replay.request.episode.repeat].append(replay)
    return found
