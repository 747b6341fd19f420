"""What a trained agent may not ask for, and why: the trained distribution must be the one that was sampled.

In: the settings of a request and the agent that makes it. Out: nothing, an error that says why, or, where the config
says `endpoint.unsupported=ignore`, a warning. Agents that are not trained may ask for anything: they are answered as
their opponent is configured. All three interfaces ask here, through `AgentModel`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from ajet.errors import WorkflowError

log = logging.getLogger(__name__)

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1,),
    "top_k": (-1, 0),
    "min_p": (0,),
    "typical_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "best_of": (1,),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "grammar": (),
}
"""Parameters that change what is sampled, each with the values that change nothing (null never does)."""
WITHOUT_EFFECT = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
    "priority",
}
"""Parameters about the service, not the reply."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
    "functions": ([],),
    "n": (1,),
    "stream": (False,),
}
"""Other parameters of OpenAI's, with the values that are what happens anyway."""


class UnsupportedSettingError(WorkflowError):
    """A trained agent asked for what cannot be trained on."""

    def __init__(self, message: str, *, setting: str) -> None:
        """`setting` is the parameter at fault, by OpenAI's name."""
        super().__init__(message)
        self.setting = setting


class Refusals:
    """Keeps a run's trained agents to what can be trained on."""

    def __init__(self, *, temperature: float, ignore: bool = False) -> None:
        """`temperature`: what the policy samples at; `ignore`: drop what is not supported with a warning, once a
        parameter and role.
        """
        self._temperature = temperature
        self._ignore = ignore
        self._warned: set[tuple[str, str]] = set()

    def check(self, settings: Mapping[str, Any], target_tag: str) -> None:
        """Refuse, or drop with a warning, what an agent of a trained role cannot have.

        Raises:
            UnsupportedSettingError: the first parameter at fault.
        """
        for name, reason in self._problems(settings, target_tag):
            if not self._ignore:
                message = f"{reason} Or set endpoint.unsupported=ignore, which drops it with a warning."
                raise UnsupportedSettingError(message, setting=name)
            if (target_tag, name) not in self._warned:
                self._warned.add((target_tag, name))
                log.warning("%s is dropped (endpoint.unsupported=ignore): %s", name, reason)

    def _problems(self, settings: Mapping[str, Any], target_tag: str) -> Iterator[tuple[str, str]]:
        """The name of each setting at fault, and why."""
        for name, value in settings.items():
            if name == "temperature":
                if value not in (None, self._temperature):
                    yield (
                        name,
                        f"temperature={value}: {target_tag} is trained on what it samples at "
                        f"rollout.temperature={self._temperature:g}; leave it out, or set that in the config.",
                    )
                continue
            if value is None or name in WITHOUT_EFFECT or value in (*NEUTRAL.get(name, ()), *_ONLY.get(name, ())):
                continue
            if name in NEUTRAL:
                yield (
                    name,
                    f"{name} would make the sampled distribution differ from the one that is trained, and "
                    f"{target_tag} is trained: leave it out.",
                )
            else:
                yield name, f"{name} is not supported here: leave it out."
