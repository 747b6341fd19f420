"""Small run directories for tests, written with the library's own writers."""

from __future__ import annotations

import json
from pathlib import Path

from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.tracking.loggers import JsonlLogger
from ajet.tracking.store import TrajectoryStore


def make_call(index: int, agent: str, tag: str, *, trained: bool = True) -> Call:
    tokens = (7, 8) if trained else ()
    return Call(
        index=index,
        agent_name=agent,
        target_tag=tag,
        trained=trained,
        messages=({"role": "user", "content": f"say {index}"},),
        reply=f"said {index}",
        prompt_ids=(1, 2, 3) if trained else (),
        sampled_ids=tokens,
        logprobs=(-1.0, -2.0)[: len(tokens)],
    )


def make_group(task: str, *won: bool | None) -> EpisodeGroup:
    """Episodes of two calls of the seer P1 and one of P2, an untrained wolf, won or lost; None: it timed out."""
    calls = (make_call(0, "P1", "seer"), make_call(1, "P2", "werewolf", trained=False), make_call(2, "P1", "seer"))
    episodes = [
        Episode(
            task=Task(task_id=task),
            repeat=repeat,
            status="timeout" if success is None else "ok",
            rewards={} if success is None else {"P1": float(success)},
            agent_tags={"P1": "seer"},
            calls=() if success is None else calls,
            is_success=success,
            error="too slow" if success is None else None,
        )
        for repeat, success in enumerate(won)
    ]
    return EpisodeGroup(task=Task(task_id=task), episodes=tuple(episodes))


def make_run(folder: Path, *overrides: str, num_steps: int = 2, finished: bool = True, seed: int = 0) -> Path:
    """A run of the werewolves' seer, written with the library's own writers."""
    folder.mkdir(parents=True)
    asked = [
        "workflow=werewolves",
        "trainable_targets=[seer]",
        "total_steps=2",
        "algorithm.warmup_steps=0",
        f"seed={seed}",
    ]
    save(compose([*asked, *overrides], run_dir=folder), folder / "config.yaml")
    store, logger = TrajectoryStore(folder / "trajectories"), JsonlLogger(folder / "metrics.jsonl")
    for step in range(num_steps):
        store.write(
            [make_group(f"train-{step}", True, False)],
            {(f"train-{step}", 0, call): 0.5 for call in (0, 2)},
            step=step,
            split="train",
        )
        logger.log(step, {"episode/ok": 2.0, "reward/seer/mean": 0.5 + 0.1 * step, "time/rollout": 2.0})
    if finished:
        store.write([make_group("eval-0", True, None)], {}, step=num_steps, split="eval")
        logger.log(num_steps, {"eval/reward/seer/mean": 1.0})
        (folder / "summary.json").write_text(json.dumps({"num_steps": num_steps}))
    logger.close()
    return folder
