"""How the replies of an attempt at an episode are drawn: afresh, or again as they were recorded, but for one change.

In: the engine calls that an attempt makes. Out: completions, sampled or from the record. A replay is the same attempt
again, with the same task, environment and opponents' seeds. A call whose agent has the same prompt as in the record,
for the n-th time, is given what was sampled then; others are sampled with randomness of the replay's own. So the two
episodes have in common whatever does not depend on the change (common random numbers), and given that, what comes of
the replay says nothing about what was changed: as a baseline it leaves a policy gradient unbiased. Left out: opponents
that are no engine, which play as they did, as their seeds are the same.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable

from ajet.data.randomness import derive_seed
from ajet.records import Call, Completion, ReplayRequest

Sampler = Callable[[int], Awaitable[Completion]]
"""A seed -> what an engine samples behind the prompt."""


class Drawing:
    """Replies as an episode that is played for the first time has them."""

    def replaces(self, target_tag: str) -> bool:
        """Whether a trained role is answered by its opponent."""
        return False

    @property
    def change(self) -> tuple[str | int, ...]:
        """What seeds that must differ from the episode's are derived from; empty where there is none."""
        return ()

    async def reply(
        self, speaker: tuple[str, str], prompt_ids: tuple[int, ...], seed: int, sample: Sampler
    ) -> Completion:
        """What an agent is answered; errors are the sampler's.

        Args:
            speaker: its name and target_tag.
            prompt_ids: what it is answered to.
            seed: of the call.
            sample: asks the engine.
        """
        return await sample(seed)


class Replaying(Drawing):
    """Replies of an episode that is played again. One object an attempt."""

    def __init__(self, request: ReplayRequest) -> None:
        """Nothing was asked yet."""
        self.num_given = self.num_sampled_tokens = 0
        self._request = request
        self._recorded: dict[tuple[tuple[str, str], tuple[int, ...]], deque[Call]] = defaultdict(deque)
        calls = request.episode.calls
        changed = [call.index for call in calls if self._is_changed(call)]
        first = min(changed, default=len(calls))
        for call in calls:
            # Of opponents that are no engine there are no tokens, and those of a replaced role are not asked for.
            if call.prompt_ids and not self.replaces(call.target_tag):
                self._recorded[_speaker(call), call.prompt_ids].append(call)
        self._due = {call.index for waiting in self._recorded.values() for call in waiting if call.index < first}
        if request.resampled_call is not None:
            self._due.add(request.resampled_call)

    @property
    def is_reproduced(self) -> bool:
        """Whether all was asked for that had been answered before anything could depend on the change."""
        return not self._due

    def replaces(self, target_tag: str) -> bool:
        """See `Drawing`."""
        return target_tag == self._request.replaced_tag

    @property
    def change(self) -> tuple[str | int, ...]:
        """See `Drawing`."""
        return self._request.change

    async def reply(
        self, speaker: tuple[str, str], prompt_ids: tuple[int, ...], seed: int, sample: Sampler
    ) -> Completion:
        """See `Drawing`."""
        recorded = self._recorded.get((speaker, prompt_ids))
        call = recorded.popleft() if recorded else None
        if call is not None:
            self._due.discard(call.index)
        if call is None or self._is_changed(call):
            # The episode's own seed would draw the same reply once more.
            sampled = await sample(derive_seed(seed, *self.change))
            self.num_sampled_tokens += len(sampled.token_ids)
            return sampled
        self.num_given += 1
        await asyncio.sleep(0)  # one turn of the loop, as every engine takes: concurrent agents interleave
        return Completion(
            token_ids=call.sampled_ids,
            logprobs=call.logprobs,
            finish_reason=call.finish_reason,
            policy_version=call.policy_version,
        )

    def _is_changed(self, call: Call) -> bool:
        if self._request.resampled_call is not None:
            return call.index == self._request.resampled_call
        return call.trained and self.replaces(call.target_tag)


def _speaker(call: Call) -> tuple[str, str]:
    return call.agent_name, call.target_tag
