"""`signals` trained on a Tinker server on this machine, and with the same seeds by the same adapters in this process.

    make setup-tinker
    python -m experiments.tinker_cpu.run --seeds 0 1 2          # into outputs/tinker_cpu; runs that are there are kept

Writes a table of both, and their curves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
from recipes.tinker_server.process import TinkerServer

from ajet.analysis import load_run
from ajet.analysis.plots import plot_rewards
from ajet.config.model import resolve_model_path
from ajet.train.__main__ import main as train

RANK, ALPHA = 8, 32
"""The server's alpha is always 32."""
TARGETS = "[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"
COMMON = (
    *("workflow=signals", "trainable_targets=[speaker,listener]", f"model.lora.rank={RANK}"),
    *("algorithm.learning_rate=3e-3", "logger=plain", "logger.wandb.mode=disabled"),
)
LOCAL = (f"model.lora.alpha={ALPHA}", f"model.lora.targets={TARGETS}", "hardware=cpu")
SLOTS = {"sample_max_num_sequences": 64}
"""Replies are two tokens long: more of them at once than the server has for the tests."""
ID_BYTES, NUMBER_BYTES = 4, 4
"""Of a token id and of a log-probability or slope, as the client sends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A run in the table."""

    where: str
    seed: int
    before: float
    after: float
    interval: tuple[float, float]
    step_s: float
    """Median of the training steps but the first, which compiles."""
    sent_kib: float
    """Ids and numbers of a step to the server and back, without what carries them; 0 in this process."""

    def cells(self) -> str:
        """As a line of Markdown."""
        low, high = self.interval
        sent = f"{self.sent_kib:.0f}" if self.sent_kib else "-"
        return (
            f"| {self.where} | {self.seed} | {self.before:.3f} | {self.after:.3f} | {self.after - self.before:+.3f} "
            f"[{low:+.3f}, {high:+.3f}] | {self.step_s:.1f} | {sent} |"
        )


def main() -> None:
    """Train what is not there yet, then tell of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("outputs/tinker_cpu"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    model = Path(resolve_model_path("builtin:tiny"))
    with TinkerServer(model, folder / "server", backend=SLOTS) as server:
        remote = ("hardware=tinker", f"tinker.base_url={server.url}")
        for seed in arguments.seeds:
            for where, settings in (("server", remote), ("process", LOCAL)):
                _train(folder / f"{where}_{seed}", seed, arguments.steps, settings)
    report(folder, arguments.seeds)


def _train(run: Path, seed: int, steps: int, settings: Sequence[str]) -> None:
    if (run / "summary.json").is_file():
        return
    start = [f"resume={run}"] if (run / "checkpoints").is_dir() else [*COMMON, *settings, f"seed={seed}"]
    if code := train([*start, f"total_steps={steps}", f"run_dir={run}"]):
        raise SystemExit(code)


def report(folder: Path, seeds: Sequence[int]) -> None:
    """`table.md` and `curves.png` of the runs in a folder."""
    rows = [_row(folder, where, seed) for where in ("server", "process") for seed in seeds]
    head = "| adapters | seed | before | after | difference [95%] | seconds a step | KiB a step |"
    table = "\n".join([head, "|---|---|---|---|---|---|---|", *(row.cells() for row in rows)])
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)
    conditions = {
        words: [load_run(folder / f"{where}_{seed}").metrics for seed in seeds]
        for where, words in (("server", "adapters on a Tinker server"), ("process", "adapters in this process"))
    }
    plot_rewards(conditions).savefig(folder / "curves.png", dpi=110)


def _row(folder: Path, where: str, seed: int) -> Row:
    run = load_run(folder / f"{where}_{seed}")
    score, metrics = run.summary["comparison"]["score"], run.metrics
    return Row(
        where="on a server" if where == "server" else "in this process",
        seed=seed,
        before=score["before"]["mean"],
        after=score["after"]["mean"],
        interval=(score["difference"]["low"], score["difference"]["high"]),
        step_s=median(metrics["time/step"].dropna().iloc[1:]),
        sent_kib=median(_num_bytes(metrics).dropna()) / 1024 if where == "server" else 0.0,
    )


def _num_bytes(metrics: pd.DataFrame) -> pd.Series:
    """Of a step's ids and numbers. Prompts go there, replies with their log-probabilities come back; each distinct row
    goes there three times, for log-probabilities under the policy and the starting model and for gradients."""
    sampling = ID_BYTES * metrics["tokens/prompt"] + (ID_BYTES + NUMBER_BYTES) * metrics["tokens/sampled"]
    # Each time ids and targets there and log-probabilities back; for gradients slopes and log-probabilities there.
    return sampling + metrics["tokens/unique"] * (3 * (2 * ID_BYTES + NUMBER_BYTES) + 2 * NUMBER_BYTES)


if __name__ == "__main__":
    main()
