"""Config -> a run that is ready to start. The only place where all parts meet.

In: a validated config. Out: a `Trainer`, an evaluation, or episodes to look at. Everything heavy (torch, vLLM,
AgentScope) loads from here.
"""

from __future__ import annotations

import os
import warnings

from transformers.utils import logging as transformers_logging

from ajet.assemble.components import make_engine
from ajet.assemble.evaluation import build_evaluation
from ajet.assemble.play import build_play
from ajet.assemble.players import make_scheduler
from ajet.assemble.trainer import build_trainer
from ajet.workflows.parameters import workflow_maker

__all__ = [
    "build_evaluation",
    "build_play",
    "build_trainer",
    "make_engine",
    "make_scheduler",
    "workflow_maker",
]

# Loading and saving take a moment each; bars for them would tear up the run's own display.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
os.environ.setdefault("WANDB_SILENT", "true")
