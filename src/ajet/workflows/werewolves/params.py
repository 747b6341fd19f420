"""How scripted players play: their parameters, `opponent.params` in the config.

In: numbers by name. Out: a checked `ScriptedParams`. All are probabilities. The defaults were tuned, so that good
decisions of the trained roles show in the result (`experiments/werewolves_room`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from ajet.errors import ConfigError
from ajet.workflows.werewolves.game import HUNTER, ROLES, SEER, VILLAGER, WEREWOLF, WITCH
from ajet.workflows.werewolves.prompts import Decision

DAY_DECISIONS: tuple[Decision, ...] = ("say", "last_words", "vote")
DECISIONS_OF: Mapping[str, tuple[Decision, ...]] = {
    WEREWOLF: ("propose", "attack", *DAY_DECISIONS),
    VILLAGER: DAY_DECISIONS,
    SEER: ("check", *DAY_DECISIONS),
    WITCH: ("potions", *DAY_DECISIONS),
    HUNTER: ("shoot", *DAY_DECISIONS),
}
"""What each role decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedParams:
    """How a scripted player plays: probabilities of its habits, set by `opponent.params`."""

    sense: Mapping[str, float] = field(default_factory=lambda: {"sense_seer": 0.7, "sense_witch": 0.7})
    """Probability of deciding sensibly rather than at random among the legal choices. Keys `sense`,
    `sense_<role>`, `sense_<role>_<decision>`; the most specific one counts, 1 where none is given."""
    follow: float = 0.9
    """Good players: voting for somebody whom a credible claim calls a werewolf."""
    first_claim_trust: float = 0.65
    """Good players: believing whoever claimed first, where two claim to be the seer."""
    insight: float = 0.75
    """Good players: noticing whose votes spared a werewolf or went against the proven seer."""
    hunch: float = 0.2
    """Good players: voting for anybody rather than for nobody, without a reason."""
    wolf_hunt: float = 0.3
    """Werewolves: attacking who claimed to be the seer."""
    wolf_agreement: float = 0.4
    """Werewolves: attacking whom a partner proposed first."""
    wolf_counterclaim: float = 0.2
    """Werewolves: claiming to be the seer and calling the real claimant a werewolf."""
    wolf_deflection: float = 0.5
    """Werewolves: suspecting somebody else rather than passing; voting with the others on a good player."""

    def sense_of(self, role: str, decision: Decision) -> float:
        """The probability of a sensible decision."""
        for key in (f"sense_{role}_{decision}", f"sense_{role}", "sense"):
            if key in self.sense:
                return self.sense[key]
        return 1.0


def scripted_params(given: Mapping[str, float]) -> ScriptedParams:
    """`given` over the defaults; a general `sense` or `sense_<role>` replaces more specific defaults.

    Raises:
        ConfigError: an unknown name, or a number that is not a probability.
    """
    base = ScriptedParams()
    habits = [habit.name for habit in fields(ScriptedParams) if habit.name != "sense"]
    senses = ["sense", *(f"sense_{role}" for role in ROLES)]
    known = [*habits, *senses, *(f"sense_{role}_{what}" for role in ROLES for what in DECISIONS_OF[role])]
    for name, value in given.items():
        if name not in known:
            raise ConfigError(
                f"opponent.params.{name}: scripted werewolves players have {', '.join([*habits, *senses])} and "
                "sense_<role>_<decision>"
            )
        if not 0 <= value <= 1:
            raise ConfigError(f"opponent.params.{name}={value}: a probability is between 0 and 1")
    chosen = {name: given[name] for name in habits if name in given}
    sense = {name: value for name, value in given.items() if name not in habits}
    kept = {name: value for name, value in base.sense.items() if not any(name.startswith(new) for new in sense)}
    return replace(base, sense=kept | sense, **chosen)
