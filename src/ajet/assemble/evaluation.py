"""An evaluation's request -> a `MatrixEvaluation` of the runs that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote

from ajet.assemble.components import make_engine, make_task_source
from ajet.assemble.players import EpisodeParts, make_episode_parts, make_renderer, make_scheduler
from ajet.assemble.policies import ServedPolicies, load_trained
from ajet.assemble.preflight import find_model
from ajet.config.root import BASE, EvaluateConfig
from ajet.errors import EngineError
from ajet.evaluate.entries import Entry, evaluation_entries
from ajet.evaluate.matrix import MatrixEvaluation
from ajet.rollout.runner import GRACE_S
from ajet.rollout.runtime import RolloutRuntime
from ajet.rollout.scheduler import RolloutScheduler
from ajet.tracking.console import make_display
from ajet.train.checkpoint import CheckpointFolder
from ajet.train.lora import merged_state
from ajet.train.model_card import ADAPTER
from ajet.train.tinker_adapters import is_at_hand
from ajet.workflows.loading import load_workflow

START = "start"
"""Names the starting model among checkpoints."""


def build_evaluation(request: EvaluateConfig) -> MatrixEvaluation:
    """Everything that playing the entries needs; one engine serves all policies, one after the other.

    Raises:
        RunDirectoryError: a run has no sound checkpoint.
    """
    entries = evaluation_entries(request)
    config = entries[0].config
    workflow = load_workflow(config.workflow.entry)
    model_path = find_model(config.model, config.engine, config.hardware)
    renderer = make_renderer(model_path)
    display = make_display(request.console)
    checkpoints = {entry.run: _checkpoint(entry.run, request.checkpoint) for entry in entries}
    tasks = make_task_source(config).held_out_tasks(
        request.num_tasks or config.eval.num_tasks, offset=request.seed_offset or config.eval.seed_offset
    )
    parts: dict[tuple[str, str], EpisodeParts] = {}
    for entry in entries:
        if entry.played not in parts:
            parts[entry.played] = make_episode_parts(entry.config, workflow, renderer)
    display.say("loading the model and the engine")
    with ExitStack() as opened:
        if config.engine.trains:
            with _advising(request, checkpoints.values()):
                engine = make_engine(config, model_path)
                opened.callback(engine.close)
                served = ServedPolicies(engine)
                # All, so that none is missed when others were played already; the last is the one that plays first.
                for checkpoint in reversed(checkpoints.values()):
                    served.use(checkpoint)
        else:
            engine = make_engine(config, model_path)
            opened.callback(engine.close)

        def take_weights(entry: Entry) -> None:
            checkpoint = checkpoints[entry.run]
            if config.engine.trains:
                served.use(checkpoint)
                return
            trained = load_trained(entry.config.model, entry.config.hardware, model_path, checkpoint)
            engine.update_weights(merged_state(trained), 0)

        def open_scheduler(entry: Entry, opened: ExitStack) -> RolloutScheduler:
            return make_scheduler(entry.config, parts[entry.played], model_path, engine, opened, display=display)

        return MatrixEvaluation(
            entries=entries,
            checkpoints=[START if (path := checkpoints[entry.run]) is None else path.name for entry in entries],
            take_weights=take_weights,
            open_scheduler=open_scheduler,
            tasks=tasks,
            repeats=request.repeats or config.eval.repeats,
            confidence=request.confidence or config.eval.confidence,
            runtime=RolloutRuntime(patience_s=config.rollout.timeout_s + GRACE_S),
            display=display,
            output_dir=Path(request.output_dir),
            close=opened.pop_all().close,
        )


@contextmanager
def _advising(request: EvaluateConfig, checkpoints: Iterable[Path | None]) -> Iterator[None]:
    """Around what a server is needed for: an error names the command that plays without it, if there is one."""
    try:
        yield
    except EngineError as error:
        folders = [checkpoint / "model" for checkpoint in checkpoints if checkpoint is not None]
        are_here = all(is_at_hand(str(folder)) or (folder / ADAPTER).is_dir() for folder in folders)
        moved = "where the server has moved, tinker.base_url=... says where to"
        if not are_here:
            raise type(error)(f"{error}; {moved}, and its weights were not saved here") from error
        runs = f"run={request.run}" if request.run is not None else f"runs=[{','.join(request.runs or [])}]"
        command = f"python -m ajet.evaluate {quote(runs)} engine=transformers"
        raise type(error)(f"{error}; {moved}, and what is saved here plays without it: {command}") from error


def _checkpoint(run: str, asked: str | None) -> Path | None:
    """A checkpoint's folder, checksums verified; None for the starting model."""
    if run == BASE or asked == START:
        return None
    folder = CheckpointFolder(Path(run), keep=1)
    return folder.newest() if asked is None else folder.at(int(asked))
