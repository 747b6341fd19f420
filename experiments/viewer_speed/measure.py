"""How fast the viewer is: `python experiments/viewer_speed/measure.py <run dir> [--episodes 10000]`.

In: a real run with trajectories. Its training files are copied under new step numbers until there are as many episodes
as asked for, with the store's own schema and row groups. Out: seconds until the viewer has read what it keeps in mind,
which happens before it tells its address, and of each page.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fastapi.testclient import TestClient

from ajet.tracking.store import ROWS_A_GROUP
from ajet.view.app import make_app


def enlarge(run: Path, big: Path, num_episodes: int) -> int:
    """Write the large run; returns how many episodes it holds."""
    (big / "trajectories").mkdir(parents=True)
    shutil.copy(run / "config.yaml", big)
    shutil.copytree(run / "checkpoints", big / "checkpoints")
    sources = sorted((run / "trajectories").glob("train_*.parquet"))
    held, step = 0, 0
    with (big / "metrics.jsonl").open("w") as metrics:
        while held < num_episodes:
            table = pq.read_table(sources[step % len(sources)])
            held += len(table.select(["task", "repeat"]).group_by(["task", "repeat"]).aggregate([]))
            place = table.schema.get_field_index("step")
            steps = pc.add(pc.multiply(table["step"], 0), step).cast(pa.int32())
            table = table.set_column(place, table.schema.field(place), steps)
            target = big / "trajectories" / f"train_{step:06d}.parquet"
            pq.write_table(table, target, compression="zstd", row_group_size=ROWS_A_GROUP)
            metrics.write(json.dumps({"step": step, "episode/ok": 1.0}) + "\n")
            step += 1
    return held


def seconds(client: TestClient, address: str) -> float:
    """Of one answer."""
    started = time.perf_counter()
    assert client.get(address).status_code == 200, address
    return time.perf_counter() - started


def measure(big: Path) -> list[tuple[str, list[float]]]:
    """Times by page: the first visit, and three more."""
    started = time.perf_counter()
    client = TestClient(make_app(big), base_url="http://127.0.0.1")
    rows = [("(start)", [time.perf_counter() - started])]
    # The first request loads the templates, too.
    rows.append(("first page", [seconds(client, "/") for _ in range(4)]))
    page = client.get("/").text
    group = unescape(re.findall(r'href="(/group[^"]*)"', page)[0])
    episode = unescape(re.findall(r'href="(/episode[^"]*)"', page)[0])
    text = client.get(episode).text
    call = unescape(re.findall(r'href="(/call[^"]*)">\d', text)[-1])
    for name, address in {
        "filtered and sorted": "/?outcome=won&order=longest",
        "group": group,
        "episode": episode,
        "call, token by token": call,
        "prefix tree": episode.replace("/episode", "/tree"),
        "two episodes compared": group.replace("/group", "/compare") + "&left=0&right=1",
    }.items():
        rows.append((name, [seconds(client, address) for _ in range(4)]))
    return rows


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--episodes", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        big = Path(folder) / "big"
        held = enlarge(arguments.run_dir, big, arguments.episodes)
        size = sum(file.stat().st_size for file in (big / "trajectories").iterdir()) / 2**20
        print(f"{held:,} episodes, {size:.0f} MiB\n\n| page | first, s | median of the next three, s |\n|---|---|---|")
        for name, times in measure(big):
            later = f"{sorted(times[1:])[1]:.3f}" if len(times) > 1 else ""
            print(f"| {name} | {times[0]:.3f} | {later} |")


if __name__ == "__main__":
    main()
