"""Configuration: YAML and command line in, one validated `Config` object out.

    conf/*.yaml + overrides ──compose──▶ DictConfig ──to_object──▶ Config ──validate──▶ assemble

One dataclass file a group; `root.py` nests them. `Config` is plain Python: no DictConfig leaves this
package. Left out on purpose: frozen dataclasses (the command line must be able to override), defaults that
depend on the machine, and anything that imports torch.
"""

from __future__ import annotations

from ajet.config.algorithm import AlgorithmConfig as AlgorithmConfig
from ajet.config.checkpoint import CheckpointConfig as CheckpointConfig
from ajet.config.endpoint import EndpointConfig as EndpointConfig
from ajet.config.engine import EngineConfig as EngineConfig
from ajet.config.eval import EvalConfig as EvalConfig
from ajet.config.hardware import HardwareConfig as HardwareConfig
from ajet.config.logger import LoggerConfig as LoggerConfig
from ajet.config.logger import WandbConfig as WandbConfig
from ajet.config.model import LoraConfig as LoraConfig
from ajet.config.model import ModelConfig as ModelConfig
from ajet.config.opponent import OpponentConfig as OpponentConfig
from ajet.config.paths import PathsConfig as PathsConfig
from ajet.config.rollout import RolloutConfig as RolloutConfig
from ajet.config.root import Config as Config
from ajet.config.root import EvaluateConfig as EvaluateConfig
from ajet.config.workflow import WorkflowConfig as WorkflowConfig
