"""The notebooks run from run directories alone: executed in a real kernel on a small sweep that was really trained."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.run_dirs import make_run

from ajet.train.__main__ import main as train

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = [
    "workflow=signals",
    "engine=transformers",
    "hardware.sampling_threads=1",
    "hardware.training_threads=1",
    "rollout.num_tasks=4",
    "rollout.group_size=4",
    "rollout.max_tokens=8",
    "eval.num_tasks=8",
    "checkpoint.every=0",
    "total_steps=2",
    "algorithm.warmup_steps=0",
    "logger.console=none",
    "logger.wandb.mode=disabled",
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two conditions of two seeds, without their weights."""
    folder = tmp_path_factory.mktemp("notebooks") / "sweep"
    asked = ["-m", *SMALL, "trainable_targets=[speaker],[listener]", "seed=1,2", f"hydra.sweep.dir={folder}"]
    assert train(asked) == 0
    for weights in (*folder.rglob("*.safetensors"), *folder.rglob("trainer.pt")):
        weights.unlink()
    return folder


def execute(notebook: Path, folder: Path, working_dir: Path) -> str:
    """Everything that the notebook printed or showed for a folder, its figures as `image/png`."""
    content = nbformat.read(notebook, as_version=4)
    (parameters,) = (cell for cell in content.cells if "parameters" in cell.metadata.get("tags", []))
    name = parameters.source.partition(" = ")[0]
    parameters.source = f"{name} = {str(folder)!r}"
    for cell in content.cells:
        cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
    content.cells.append(nbformat.v4.new_code_cell("import sys; print('torch loaded:', 'torch' in sys.modules)"))
    kernel_env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    client = NotebookClient(
        content, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(working_dir)}}
    )
    client.execute(env=kernel_env)
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    return "\n".join(
        "image/png"
        if "image/png" in output.get("data", {})
        else output.get("text", output.get("data", {}).get("text/plain"))
        for output in outputs
    )


@pytest.mark.slow
def test_the_first_run_shows_its_answer_curves_credit_and_costs(sweep: Path, tmp_path: Path) -> None:
    shown = execute(ROOT / "notebooks" / "01_first_run.ipynb", sweep / "0", tmp_path)
    assert "finished after 2 steps" in shown and "reward speaker" in shown and "tasks_needed" in shown
    assert shown.count("image/png") == 4 and shown.endswith("torch loaded: False\n")


@pytest.mark.slow
def test_the_ablation_compares_conditions_over_their_seeds(sweep: Path, tmp_path: Path) -> None:
    shown = execute(ROOT / "notebooks" / "02_ablation.ipynb", sweep, tmp_path)
    assert "listener over speaker" in shown and "trainable_targets" in shown
    assert shown.count("image/png") == 3 and shown.endswith("torch loaded: False\n")


@pytest.mark.slow
def test_an_episode_is_read_as_a_conversation_and_token_by_token(sweep: Path, tmp_path: Path) -> None:
    shown = execute(ROOT / "notebooks" / "03_inside_an_episode.ipynb", sweep / "0", tmp_path)
    assert "[user]" in shown and "sampled tokens" in shown and "of them distinct" in shown
    assert shown.count("image/png") == 1 and shown.endswith("torch loaded: False\n")


def test_runs_that_go_on_or_crashed_at_once_are_shown_as_far_as_they_came(tmp_path: Path) -> None:
    make_run(tmp_path / "0", num_steps=1, finished=False)
    make_run(tmp_path / "1", num_steps=0, finished=False, seed=1)
    shown = execute(ROOT / "notebooks" / "02_ablation.ipynb", tmp_path, tmp_path)
    assert shown.count("unfinished") == 2 and "no run has been evaluated twice yet" in shown
    assert "unfinished after 0 steps" in execute(ROOT / "notebooks" / "01_first_run.ipynb", tmp_path / "1", tmp_path)
    assert "of them distinct" in execute(ROOT / "notebooks" / "03_inside_an_episode.ipynb", tmp_path / "0", tmp_path)


@pytest.mark.slow
def test_a_notebook_that_is_given_no_run_trains_one(tmp_path: Path) -> None:
    content = nbformat.read(ROOT / "notebooks" / "03_inside_an_episode.ipynb", as_version=4)
    client = NotebookClient(
        content, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
    assert len(list(tmp_path.glob("outputs/*/*/summary.json"))) == 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_ships_with_what_it_shows(notebook: Path) -> None:
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if "/tmp/" in str(output) or "/home/" in str(output)]


def test_every_notebook_is_executed() -> None:
    names = ["01_first_run", "02_ablation", "03_inside_an_episode", "04_your_own_workflow"]
    assert [path.stem for path in NOTEBOOKS] == names
