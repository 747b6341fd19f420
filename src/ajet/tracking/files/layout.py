"""What lies in the directories that ajet makes: the table behind `docs/reference/run-directory.md`.

Writers stand elsewhere; a test holds the files of real runs against this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from ajet.tracking.files.patterns import matches

_PLACEHOLDERS = {"<n>": "[0-9]+", "<any>": ".+", "<command>": "[a-z]+", "<date_time>": "[^/]+"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A file or a family of files below a directory.

    Example: `RunFile(path="checkpoints/step_<n>/trainer.pt", meaning="…").matches("checkpoints/step_20/trainer.pt")`.
    """

    path: str
    """Below the directory; `<n>` a number, `<any>` names that another tool chooses."""
    meaning: str

    def matches(self, path: str) -> bool:
        """Whether a relative path is one of these."""
        return matches(self.path, path, _PLACEHOLDERS)


RUN_FILES: tuple[RunFile, ...] = (
    RunFile(path="config.yaml", meaning="The resolved configuration: what `resume`, `evaluate` and analysis read."),
    RunFile(path="provenance.json", meaning="A list, one entry a start: command, commit, versions, machine."),
    RunFile(
        path="plan.json",
        meaning="What the run was to need, [as `ajet plan` computes it](../plan.md): GiB by part, peaks by phase for "
        "the largest packs that the settings allow, and the counts that they come from.",
    ),
    RunFile(
        path="code.json",
        meaning="Which code and keys outside ajet the run used, signed with the user's own key, so that `resume` and "
        "`evaluate` run nothing of another user's unasked.",
    ),
    RunFile(
        path="metrics.jsonl",
        meaning="One JSON object a step, `step` first, then [metrics](metrics.md). Written whatever the logger; a line "
        "with step s was measured with the policy after s updates. Numbers that are not finite are null.",
    ),
    RunFile(
        path="summary.json",
        meaning="Written at the end: steps, seconds by phase, peak memory, held-out scores before and after, and their "
        "paired differences with intervals.",
    ),
    RunFile(path="trajectories/train_<n>.parquet", meaning="The calls of a training step, one row each."),
    RunFile(
        path="trajectories/eval_<n>.parquet", meaning="The calls of an evaluation, played after that many updates."
    ),
    RunFile(
        path="checkpoints/step_<n>/model/<any>",
        meaning="The model after that many steps in Hugging Face format, adapters merged in; loads in transformers and "
        "vLLM. Of a run on a server (`hardware=tinker`) the adapter alone, in `adapter`, unless the starting model is "
        "a directory here. Its `README.md` says how to use it.",
    ),
    RunFile(
        path="checkpoints/step_<n>/trainer.pt",
        meaning="What a resumed run needs besides: optimizer, trained parameters, the first "
        "evaluation. Tensors and plain "
        "values only.",
    ),
    RunFile(
        path="checkpoints/step_<n>/checksums.json",
        meaning="SHA-256 of each file. Written last: a folder without it is not a whole checkpoint. "
        "Verified on every load.",
    ),
    RunFile(path="tokenizer/<any>", meaning="The starting model's tokenizer and chat template, with `checksums.json`."),
    RunFile(
        path="judge_cache.jsonl", meaning="With `judge=llm`: what the judge answered, so that nothing is asked twice."
    ),
    RunFile(
        path="wandb/<any>", meaning="The W&B run, unless `logger.wandb.mode=disabled`; `ajet_run.json` holds its id."
    ),
    RunFile(
        path=".hydra/<any>", meaning="Hydra's own record: the overrides as they were written, one folder a resume."
    ),
    RunFile(path="<command>.log", meaning="Python's log records of the command."),
    RunFile(
        path="workflow.py", meaning="The class of a notebook's cell that `ajet.train` was given, and what it needs."
    ),
    RunFile(path="report.html", meaning="Made by `python -m ajet.report`."),
    RunFile(path="evaluations/<date_time>/<any>", meaning="Made by `python -m ajet.evaluate run=<this>`."),
    RunFile(path=".lock", meaning="Held while a process works in the directory; freed by the system when that ends."),
    RunFile(path=".lock.json", meaning="Which process holds or held it."),
    RunFile(path="earlier_<n>/<any>", meaning="What an attempt that was killed before its first checkpoint had left."),
)
"""Of one training run."""

PLAY_FILES: tuple[RunFile, ...] = (
    RunFile(path="config.yaml", meaning="The resolved configuration."),
    RunFile(path="workflow.py", meaning="As in a training run."),
    RunFile(path="transcript.txt", meaning="What the console showed: every call as it happened."),
    RunFile(path="trajectories/play_<n>.parquet", meaning="The calls, one row each."),
    RunFile(path=".hydra/<any>", meaning="Hydra's own record."),
    RunFile(path="rollout.log", meaning="Python's log records."),
)
"""Of `python -m ajet.rollout`."""

EVALUATION_FILES: tuple[RunFile, ...] = (
    RunFile(path="evaluation.json", meaning="Scores and differences of every policy against every opponent."),
    RunFile(path="trajectories/<any>", meaning="The calls that were played, as in a run; one folder a cell."),
    RunFile(path="judge_cache.jsonl", meaning="As in a training run."),
    RunFile(path=".hydra/<any>", meaning="Hydra's own record."),
    RunFile(path="evaluate.log", meaning="Python's log records."),
)
"""Of one evaluation."""

SWEEP_FILES: tuple[RunFile, ...] = (
    RunFile(path="sweep.json", meaning="The command, and the jobs that it means."),
    RunFile(path="<n>/job.json", meaning="The state of one job."),
    RunFile(path="<n>/job.lock", meaning="Held while the job runs."),
    RunFile(path="<n>/error.txt", meaning="The traceback of a job that failed."),
    RunFile(path="<n>/<any>", meaning="The job's run directory, as above."),
    RunFile(path="multirun.yaml", meaning="Hydra's own record."),
    RunFile(path="report.html", meaning="Made by `python -m ajet.report`."),
    RunFile(path="optimization_results.yaml", meaning="With `sweep=optuna`: the best trial."),
)
"""Of a sweep (`-m`)."""
