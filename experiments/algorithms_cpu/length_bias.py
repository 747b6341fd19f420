"""What a decision earns, and what an aggregation makes of it: is the witch taught to save?

    python -m ajet.train experiment=werewolves_quick credit=difference total_steps=1 rollout.num_tasks=64 eval=none \
        algorithm.learning_rate=1e-12 algorithm.warmup_steps=0 logger.trajectories_every=1 run_dir=<run>
    python -m experiments.algorithms_cpu.length_bias <run>

In: the trajectories of a run's first step. Out: a Markdown table of first nights, by whether the witch saved: its
games, tokens and share won, and the mean advantage that it is trained with, of the game's reward (as `per_tag` has it)
and of the run's own rule. Each once as it is, which is what a mean over all tokens makes of it (`aggregation=dapo`),
and once with every game's weight shared out over the tokens that the witch said in it (`grpo`), in the same unit.
Saving is taught where its advantage is above that of not saving.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from ajet.analysis.runs import load_run

RULES = {"per_tag": "per_tag", "advantage": "the run's rule"}


def first_nights(calls: pd.DataFrame) -> pd.DataFrame:
    """A row a game: `saves`, `score`, `tokens` of the witch in all of the game, `advantage` and `per_tag`."""
    witch = calls[(calls.tag == "witch") & calls.trained].copy()
    witch["tokens"] = witch.sampled_ids.map(len).groupby(witch.episode).transform("sum")
    nights = witch[[json.loads(messages)[-1]["content"].count("Night 1.") == 1 for messages in witch.messages]].copy()
    nights["saves"] = nights.reply.str.contains('"save": true')
    groups = nights.groupby("task").score
    nights["per_tag"] = ((nights.score - groups.transform("mean")) / groups.transform("std")).fillna(0.0)
    return nights


def main(run: Path) -> None:
    """Print the table."""
    nights = first_nights(pd.read_parquet(load_run(run).trajectory_files()[0]))
    rules = [f"{rule}, {aggregation}" for rule in RULES.values() for aggregation in ("dapo", "grpo")]
    headings = ["first night", "games", "tokens", "won", *rules]
    print(f"| {' | '.join(headings)} |")
    print("|---" * len(headings) + "|")
    rows: dict[str, list[pd.Series]] = {"saves": [], "does not": []}
    for name, games in (("saves", nights[nights.saves]), ("does not", nights[~nights.saves])):
        by_game = nights.tokens.mean() / games.tokens
        rows[name] = [games[rule] * weight for rule in RULES for weight in (1.0, by_game)]
        cells = " | ".join(f"{values.mean():+.3f}" for values in rows[name])
        print(f"| {name} | {len(games)} | {games.tokens.mean():.0f} | {games.score.mean():.3f} | {cells} |")
    gaps = [
        f"{a.mean() - b.mean():+.3f} ± {(a.sem() ** 2 + b.sem() ** 2) ** 0.5:.3f}"
        for a, b in zip(rows["saves"], rows["does not"], strict=True)
    ]
    print(f"| saving over not | | | | {' | '.join(gaps)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
