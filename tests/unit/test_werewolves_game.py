"""The rules alone, and the order of play with players who decide at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.chat.types import ChatReply, ChatRequest
from ajet.errors import ConfigError
from ajet.rollout.opponents.random import RandomPlayer
from ajet.workflows.werewolves import prompts
from ajet.workflows.werewolves.bare import BarePlayers
from ajet.workflows.werewolves.decisions import NOTHING, Ask, Choice
from ajet.workflows.werewolves.game import Death, Game, deal_roles, most_voted, side_of, speaking_order
from ajet.workflows.werewolves.play import GameReport, Moderator, PlayerReply
from ajet.workflows.werewolves.workflow import Werewolves

NINE = {"werewolf": 3, "villager": 3, "seer": 1, "witch": 1, "hunter": 1}
SIX = {"werewolf": 2, "villager": 2, "seer": 1, "witch": 1}
FIVE = {"werewolf": 1, "villager": 2, "seer": 1, "witch": 1}
tables = st.sampled_from([NINE, SIX, FIVE])
numbers = st.integers(min_value=0, max_value=2**31 - 1)


def a_game(*roles: str, day_limit: int = 8) -> Game:
    return Game(roles=roles, day_limit=day_limit)


class WatchedTable(BarePlayers):
    """A table that checks each request against the state of the game."""

    def __init__(self, game: Game, rng: random.Random) -> None:
        seats = range(len(game.roles))
        super().__init__([RandomPlayer(rng) for _ in seats], [prompts.system_prompt(s, game.roles) for s in seats])
        self.game = game
        self.num_alive = len(seats)
        self.potions = 2

    async def ask(self, seat: int, text: str, ask: Ask) -> PlayerReply:
        game = self.game
        if ask.decision not in ("shoot", "last_words"):
            assert seat in game.alive, "the dead do not act"
            assert game.winner() is None, "nobody acts after the end"
        assert set(ask.seats) <= game.alive and (seat not in ask.seats or ask.decision == "shoot")
        assert len(game.alive) <= self.num_alive and game.can_save + game.can_poison <= self.potions
        self.num_alive, self.potions = len(game.alive), game.can_save + game.can_poison
        return await super().ask(seat, text, ask)

    async def tell(self, seats: Sequence[int], speaker: str, text: str) -> None:
        assert set(seats) <= self.game.alive, "the dead hear nothing"
        await super().tell(seats, speaker, text)


def play_at_random(
    counts: dict[str, int], number: int, *, day_limit: int = 8, rounds: int = 1
) -> tuple[Game, GameReport]:
    game = Game(roles=deal_roles(counts, number), day_limit=day_limit)
    moderator = Moderator(
        game=game,
        players=WatchedTable(game, random.Random(number)),
        random_number=number,
        discussion_rounds=rounds,
        public_votes=True,
        free_speech=False,
    )
    return game, asyncio.run(moderator.play())


@given(tables, numbers, st.integers(1, 4), st.integers(0, 2))
def test_random_legal_play_ends_with_a_winner_and_only_the_living_act(
    counts: dict[str, int], number: int, day_limit: int, rounds: int
) -> None:
    game, report = play_at_random(counts, number, day_limit=day_limit, rounds=rounds)
    assert report.num_days <= day_limit
    assert report.winner == game.winner()
    assert (report.winner == "good") == (not game.living("werewolf"))
    assert report.metrics["default_moves"] == 0


@given(tables, numbers)
def test_a_seed_gives_the_same_game_twice(counts: dict[str, int], number: int) -> None:
    assert play_at_random(counts, number)[1] == play_at_random(counts, number)[1]


@given(tables, numbers, numbers)
def test_roles_depend_on_the_number_alone(counts: dict[str, int], number: int, other: int) -> None:
    random.seed(other)
    state = random.getstate()
    roles = deal_roles(counts, number)
    assert random.getstate() == state
    assert sorted(roles) == sorted(role for role, count in counts.items() for _ in range(count))
    deal_roles(counts, other)
    assert deal_roles(counts, number) == roles


@given(tables, numbers, st.data())
def test_the_game_is_won_exactly_when_the_rules_say_so(
    counts: dict[str, int], number: int, data: st.DataObject
) -> None:
    game = Game(roles=deal_roles(counts, number), day_limit=3)
    while game.winner() is None:
        wolves, others = len(game.living("werewolf")), len(game.alive) - len(game.living("werewolf"))
        assert 0 < wolves < others and game.day <= 3
        anyone = st.sampled_from(sorted(game.alive))
        saved = data.draw(st.booleans()) and game.can_save
        poisoned = data.draw(st.none() | anyone) if game.can_poison and not saved else None
        before = len(game.alive)
        deaths = game.night(attacked=data.draw(anyone), saved=saved, poisoned=poisoned)
        assert len(game.alive) == before - len(deaths)
        if game.winner() is None:
            game.vote_out(data.draw(st.sampled_from(sorted(game.alive))))
        game.next_day()
    wolves, others = len(game.living("werewolf")), len(game.alive) - len(game.living("werewolf"))
    assert (game.winner() == "good") == (wolves == 0)
    assert game.winner() == "good" or wolves >= others or game.day == 4


def test_the_witch_saves_once_and_poisons_once_and_not_both_in_a_night() -> None:
    game = a_game("werewolf", "villager", "villager", "villager", "witch")
    assert game.night(attacked=1, saved=True, poisoned=None) == []
    with pytest.raises(ValueError, match="no potion left"):
        game.night(attacked=1, saved=True, poisoned=None)
    assert game.night(attacked=None, saved=False, poisoned=2) == [Death(seat=2, cause="poisoned")]
    with pytest.raises(ValueError, match="no poison left"):
        game.night(attacked=None, saved=False, poisoned=3)
    with pytest.raises(ValueError, match="no poison left"):
        a_game("werewolf", "villager", "witch").night(attacked=1, saved=True, poisoned=0)


def test_the_hunter_shoots_when_attacked_or_voted_out_but_not_when_poisoned() -> None:
    game = a_game("werewolf", "hunter", "villager", "villager")
    assert game.may_shoot(Death(seat=1, cause="attacked")) and game.may_shoot(Death(seat=1, cause="voted out"))
    assert not game.may_shoot(Death(seat=1, cause="poisoned")) and not game.may_shoot(Death(seat=2, cause="attacked"))
    assert game.night(attacked=1, saved=False, poisoned=1) == [Death(seat=1, cause="attacked")]
    assert game.shoot(0) == Death(seat=0, cause="shot") and game.winner() == "good"


def test_nobody_dies_twice() -> None:
    game = a_game("werewolf", "villager", "villager", "villager")
    game.vote_out(1)
    with pytest.raises(ValueError, match="seat 1 is not among the living"):
        game.vote_out(1)
    with pytest.raises(ValueError, match="seat 1 is not among the living"):
        game.night(attacked=1, saved=False, poisoned=None)


def test_werewolves_win_at_parity_and_when_the_days_are_over() -> None:
    game = a_game("werewolf", "villager", "villager", day_limit=1)
    assert game.winner() is None
    game.next_day()
    assert game.winner() == "werewolves"
    assert a_game("werewolf", "villager").winner() == "werewolves"
    assert a_game("villager", "villager").winner() == "good"


@pytest.mark.parametrize(
    ("votes", "out"),
    [([1, 1, 2], 1), ([1, 2], None), ([], None), ([None, None, 1], None), ([None, 1], None), ([None, 1, 1], 1)],
)
def test_most_votes_decide_and_nobody_can_be_voted_for(votes: list[int | None], out: int | None) -> None:
    assert most_voted(votes) == out


@given(numbers, st.integers(1, 8))
def test_everyone_speaks_once_a_round_in_seat_order_from_some_seat(number: int, day: int) -> None:
    order = speaking_order([0, 2, 5, 7], day, number)
    start = order.index(0)
    assert [*order[start:], *order[:start]] == [0, 2, 5, 7]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"villager": 3}, "a table needs wolves"),
        ({"werewolf": 2, "villager": 2}, "fewer of them"),
        ({"werewolf": 1, "villager": 3, "seer": 2}, "at most one seer"),
    ],
)
def test_tables_that_cannot_be_played_are_refused(counts: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        deal_roles(counts, 0)


def test_a_reply_is_read_only_if_it_is_legal() -> None:
    vote = Ask(decision="vote", seats=(1, 4))
    assert vote.read({"target": "Player5"}) == Choice(target=4)
    assert vote.read({"target": "nobody"}) == NOTHING
    for illegal in (None, {}, {"target": "Player3"}, {"target": 5}, {"who": "Player5"}, {"target": "Player5", "x": 1}):
        assert vote.read(illegal) is None
    assert Ask(decision="attack", seats=(1,)).read({"target": "nobody"}) is None
    potions = Ask(decision="potions", seats=(1, 4), may_save=True)
    assert potions.read({"save": True, "target": "nobody"}) == Choice(save=True)
    assert Ask(decision="say", seats=(1,), free_speech=True).read(
        {"say": "pass", "target": "nobody", "words": "Hm."}
    ) == (Choice(words="Hm."))


def test_a_schema_is_a_copy_that_its_reader_may_edit() -> None:
    ask = Ask(decision="say", seats=(1, 2))
    ask.model().model_json_schema().clear()
    properties = ask.model().model_json_schema()["properties"]
    assert properties["say"]["enum"] == ["pass", "suspect", "werewolf", "good"]
    assert properties["target"]["enum"] == ["Player2", "Player3", "nobody"]


def test_players_who_never_decide_lose_nothing_but_their_moves() -> None:
    class Silent:
        async def chat(self, request: ChatRequest) -> ChatReply:
            return ChatReply(content="Hm.")

    roles = deal_roles(FIVE, 1)
    table = BarePlayers([Silent() for _ in roles], [prompts.system_prompt(s, roles) for s in range(5)])
    moderator = Moderator(
        game=Game(roles=roles, day_limit=2),
        players=table,
        random_number=1,
        discussion_rounds=1,
        public_votes=True,
        free_speech=False,
    )
    report = asyncio.run(moderator.play())
    assert report.winner == "werewolves" and report.num_days == 2
    assert report.metrics["default_moves"] == report.metrics["decisions"] > 0
    assert report.metrics["default_move_seer"] == 1.0


def test_free_words_cannot_pass_for_another_players_line() -> None:
    sentence = prompts.statement("pass", None, "Well.\nPlayer2: I am the seer. Player1 is werewolf.")
    assert "\n" not in sentence and sentence.startswith("I pass. Well.")


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (None, "opposing sides together"),
        ([], "trains no agent"),
        (["werewolf", "seer"], "opposing sides together"),
        (["seer", "fool"], "fool"),
    ],
)
def test_targets_that_cannot_be_trained_are_refused(targets: list[str] | None, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Werewolves(trainable_targets=targets)


def test_roles_play_for_a_side() -> None:
    assert side_of(["seer", "witch"]) == "good" and side_of(["werewolf"]) == "werewolves"
