"""What witches do with their potions before and after training: `… potions.py <run dir> …`.

In: finished werewolves runs with trajectories. Out: Markdown, a row a run: of the held-out nights on which a witch
could poison and did not save, how often somebody was poisoned, where a claim had called somebody a werewolf and where
none had; and potions a game.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from ajet.workflows.werewolves.prompts import CALLED_WEREWOLF, NOBODY, REQUESTS

WHENS = ("called", "nobody called")


def potions(path: Path) -> Counter[str]:
    """Counts over an evaluation's games."""
    table = pq.read_table(path, columns=["task", "repeat", "tag", "messages", "reply"])
    counts: Counter[str] = Counter()
    games = set()
    for row in table.to_pylist():
        games.add((row["task"], row["repeat"]))
        request = str(json.loads(row["messages"])[-1]["content"]) if row["tag"] == "witch" else ""
        _, asked, notes = request.rpartition(REQUESTS["potions"])
        if not asked or "<tool_call>" not in row["reply"]:
            continue
        saves = '"save": true' in row["reply"]
        target = re.search(r'"target": "(\w+)"', row["reply"])
        poisons = target is not None and target[1] != NOBODY and not saves
        counts["saves"] += saves
        if not saves and "poison" in notes.partition(".")[0]:
            when = WHENS[f"{CALLED_WEREWOLF}: {NOBODY}" in notes]
            counts[f"nights, {when}"] += 1
            counts[f"poisons, {when}"] += poisons
    counts["games"] = len(games)
    return counts


def row(run_dir: Path) -> str:
    """Before → after."""
    paths = sorted((run_dir / "trajectories").glob("eval_*.parquet"))
    first, last = potions(paths[0]), potions(paths[-1])
    shares = [
        " → ".join(f"{one[f'poisons, {when}'] / max(1, one[f'nights, {when}']):.2f}" for one in (first, last))
        for when in WHENS
    ]
    a_game = [
        " → ".join(f"{sum(one[name] for name in names) / one['games']:.2f}" for one in (first, last))
        for names in (["saves"], [f"poisons, {when}" for when in WHENS])
    ]
    return f"| {run_dir.name} | {' | '.join([*shares, *a_game])} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", type=Path, nargs="+")
    print("| run | poisons, somebody called a werewolf | poisons, nobody called | saves a game | poisons a game |")
    print("|---|---|---|---|---|")
    for run_dir in parser.parse_args().run_dirs:
        print(row(run_dir))


if __name__ == "__main__":
    main()
