"""What werewolves say and attack before and after training: `python experiments/werewolves_cpu/wolves.py <run dir> …`.

In: finished werewolves runs that trained the werewolves and kept trajectories. Out: Markdown, a column a run: shares of
their held-out statements and attacks, before → after. A statement without a target or form is heard as passing.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from ajet.workflows.werewolves.prompts import (
    CALL_GOOD,
    CALL_WEREWOLF,
    CLAIMED_SEER,
    NOBODY,
    PASS,
    PROPOSED,
    REQUESTS,
    SUSPECT,
)

SEEN_AS = {CALL_WEREWOLF: "call somebody a werewolf", CALL_GOOD: "call somebody good", SUSPECT: "suspect somebody"}
TOOL_CALL, ARGUMENTS = "<tool_call>", '"arguments": '
STATEMENTS = (*SEEN_AS.values(), "pass")
CLAIM_ATTACKED = "attack who claimed to be the seer"
AGREES = "attack who was proposed first"
ROWS = (*STATEMENTS, AGREES, CLAIM_ATTACKED)


def shares(path: Path) -> dict[str, float]:
    """Of an evaluation's statements and attacks."""
    chances: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for row in pq.read_table(path, columns=["tag", "messages", "reply", "format_error"]).to_pylist():
        if row["tag"] != "werewolf" or row["format_error"] is not None or TOOL_CALL not in row["reply"]:
            continue
        request = str(json.loads(row["messages"])[-1]["content"])
        fields, _ = json.JSONDecoder().raw_decode(row["reply"].rpartition(ARGUMENTS)[2])
        target = fields.get("target", NOBODY)
        if REQUESTS["say"] in request:
            chances.update(STATEMENTS)
            said = PASS if target == NOBODY else fields.get("say", PASS)
            counts[SEEN_AS.get(said, "pass")] += 1
        elif REQUESTS["attack"] in request:
            for name, label in ((AGREES, PROPOSED), (CLAIM_ATTACKED, CLAIMED_SEER)):
                noted = re.search(rf"{label}: (Player\d+)", request)
                chances[name] += noted is not None
                counts[name] += noted is not None and target == noted[1]
    return {name: counts[name] / max(1, chances[name]) for name in ROWS}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", type=Path, nargs="+")
    run_dirs: list[Path] = parser.parse_args().run_dirs
    evaluations = [sorted((run_dir / "trajectories").glob("eval_*.parquet")) for run_dir in run_dirs]
    before_after = [(shares(paths[0]), shares(paths[-1])) for paths in evaluations]
    print("| werewolves | " + " | ".join(run_dir.name for run_dir in run_dirs) + " |")
    print("|---" * (len(run_dirs) + 1) + "|")
    for name in ROWS:
        print(f"| {name} | " + " | ".join(f"{one[name]:.2f} → {two[name]:.2f}" for one, two in before_after) + " |")


if __name__ == "__main__":
    main()
