"""A resolved `Config` in, the few lines that tell a user what is about to happen out."""

from __future__ import annotations

from ajet.config.root import Config
from ajet.config.unknown_model import careful_note


def overview(config: Config, *, num_processes: int = 1) -> list[str]:
    """One line a topic: who is trained against whom, on what, how much, and where it goes."""
    rollout, algorithm, evaluation = config.rollout, config.algorithm, config.eval
    episodes = rollout.num_tasks * rollout.group_size
    adapters = f"LoRA rank {config.model.lora.rank}" if config.model.lora.rank else "all weights in float32"
    moments = [
        word
        for word, on in (
            ("before", evaluation.first),
            (f"every {evaluation.every} steps", evaluation.every > 0),
            ("after", evaluation.last),
        )
        if on
    ]
    evaluated = f"{evaluation.num_tasks} held-out tasks {', '.join(moments)}" if moments else "none"
    lines = {
        "workflow": f"{config.workflow.entry}: {_roles(config)}",
        "model": f"{config.model.path}, {config.model.dtype} engine, trains {adapters}",
        "algorithm": f"{algorithm.loss} loss, {algorithm.aggregation} aggregation, {algorithm.advantage} advantages "
        f"({config.credit.name}), "
        f"learning rate {algorithm.learning_rate:g}",
        "rollout": f"{config.total_steps} steps of {rollout.num_tasks} tasks x {rollout.group_size} episodes "
        f"({config.total_steps * episodes} in all), {min(rollout.concurrency, episodes)} at once",
        "engine": _engine(config),
        "processes": f"{num_processes}, which share out episodes and updates",
        "eval": evaluated,
        "run": config.run_dir if config.resume is None else f"{config.run_dir} (resumed)",
    }
    if num_processes == 1:
        del lines["processes"]
    notes = (careful_note(config), config.credit.remark(trained_tags=config.trained_tags))
    topics = [*lines.items(), *(("note", note) for note in notes if note is not None)]
    return [f"{topic:<10} {line}" for topic, line in topics]


def _engine(config: Config) -> str:
    """What samples, and where."""
    engine, hardware = config.engine, config.hardware
    if engine.trains:
        return f"{engine.name}: the server at {config.tinker.place} samples and trains"
    threads = "every core" if hardware.sampling_threads is None else f"{hardware.sampling_threads} threads"
    return f"{engine.name} on {hardware.device}" + (f", {threads}" if hardware.device == "cpu" else "")


def _roles(config: Config) -> str:
    """Who is trained and who plays the others."""
    tags, targets = config.workflow.target_tags or [], config.trainable_targets
    trained = ", ".join(targets) if targets else "every agent"
    others = [tag for tag in tags if targets and tag not in targets]
    speaker = "the workflow's own models" if config.opponent.name == "workflow" else config.opponent.name
    if others:
        return f"trains {trained}; {', '.join(others)} played by {speaker}"
    return f"trains {trained}" if tags or not targets else f"trains {trained}; others played by {speaker}"
