"""Keys: each opens one agent's model in one episode, and nothing once the episode has ended.

A key is `sk-ajet-<id>-<secret>`. The id finds the session, the secret is compared in constant time, also where the id
is unknown, so that answering times tell nothing.
"""

from __future__ import annotations

import hmac
import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from ajet.chat.types import ChatModel

PREFIX = "sk-ajet-"
EPISODES = "/e/"
"""Where the addresses of episodes begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One agent's way to its model."""

    agent_name: str
    target_tag: str
    trained: bool
    """Whether the policy speaks, so that only what can be trained on may be asked for."""
    temperature: float
    """`rollout.temperature`: what the policy samples at."""
    model: ChatModel
    """Usable from any thread."""
    max_context: int = 0
    """Most token ids that a raw prompt may hold; 0 where only text is read."""
    episode: str = ""
    """Its episode in addresses (`episode_path`), of which each has its own."""

    @property
    def model_name(self) -> str:
        """What the model is called to clients. No slash: some of them read a provider out of it."""
        return f"ajet-{self.target_tag}"


def episode_path(episode: str) -> str:
    """The root of an episode's own address.

    Clients keep connections and caches by URL, some of them (LangChain's) across event loops and for the life of the
    process. What they keep of one episode must not meet another's requests.
    """
    return f"{EPISODES}{episode}"


def path_within(path: str, session: Session) -> str | None:
    """The path below the session's episode, e.g. `/v1/models`; None for an address of another episode.

    Without an episode in front it is taken as it is: a client in this process has no address.
    """
    if not path.startswith(EPISODES):
        return path
    root = episode_path(session.episode)
    return path.removeprefix(root) if path.startswith(f"{root}/") else None


class SessionTable:
    """The sessions that are open. Its dict is only put to, popped and looked up, which threads may do at once."""

    def __init__(self) -> None:
        """Start without any."""
        self._sessions: dict[str, tuple[str, Session]] = {}
        self.reply_numbers = itertools.count()
        """For replies without an id: agents of one conversation may have keys of their own, so no key counts alone."""
        self._decoy = _new_key()[1]

    def open(self, session: Session) -> str:
        """A new key for a session."""
        name, key = _new_key()
        self._sessions[name] = (key, session)
        return key

    def find(self, key: str) -> Session | None:
        """The session that a key opens, or None for one that is wrong or dead."""
        known = self._sessions.get(_name_of(key))
        expected = self._decoy if known is None else known[0]
        fits = hmac.compare_digest(key.encode(), expected.encode())
        return known[1] if fits and known is not None else None

    def close(self, keys: Iterable[str]) -> None:
        """End sessions; their keys open nothing from here on."""
        for key in keys:
            self._sessions.pop(_name_of(key), None)


def _new_key() -> tuple[str, str]:
    name = secrets.token_hex(8)
    return name, f"{PREFIX}{name}-{secrets.token_urlsafe(32)}"


def _name_of(key: str) -> str:
    return key.removeprefix(PREFIX).partition("-")[0]
