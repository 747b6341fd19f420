"""A validated config -> episodes that are played to be looked at."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ajet.assemble.components import make_engine, make_task_source
from ajet.assemble.players import make_episode_parts, make_renderer, make_scheduler
from ajet.assemble.preflight import find_model
from ajet.config.root import PlayConfig
from ajet.config.saved import save
from ajet.rollout.play import PlayRun
from ajet.rollout.runner import RolloutCallbacks
from ajet.rollout.runtime import RolloutRuntime
from ajet.tracking.store import TrajectoryStore
from ajet.tracking.transcript import Transcript
from ajet.workflows.loading import load_workflow

TRANSCRIPT = "transcript.txt"


def build_play(config: PlayConfig) -> PlayRun:
    """Everything that playing without training needs; nothing is written before all of it can work."""
    workflow = load_workflow(config.workflow.entry)
    tasks = make_task_source(config).train_tasks(0, config.num_episodes)
    model_path = find_model(config.model, config.engine, config.hardware)
    parts = make_episode_parts(config, workflow, make_renderer(model_path))
    run_dir = Path(config.run_dir)
    save(config, run_dir / "config.yaml")
    print(f"loading {config.model.path} on {config.engine.name}", flush=True)
    with ExitStack() as opened:
        engine = make_engine(config, model_path)
        opened.callback(engine.close)
        transcript = Transcript(run_dir / TRANSCRIPT, _say)
        opened.callback(transcript.close)
        store = TrajectoryStore(run_dir / "trajectories")
        return PlayRun(
            tasks=tasks,
            scheduler=make_scheduler(
                config,
                parts,
                model_path,
                engine,
                opened,
                frozen_engine=engine,
                callbacks=RolloutCallbacks(
                    on_call=transcript.call, on_failure=transcript.failure, on_episode=transcript.episode
                ),
            ),
            runtime=RolloutRuntime(),
            keep=lambda groups: store.write(groups, {}, step=0, split="play"),
            transcript_path=run_dir / TRANSCRIPT,
            say=_say,
            close=opened.pop_all().close,
        )


def _say(text: str) -> None:
    print(text, flush=True)
