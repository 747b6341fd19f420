"""A model call through each interface against raw vLLM: the same requests, as many at once, in turns.

In: an interface and how many episodes are under way. Out: seconds by ajet and by vLLM alone. vLLM is given the prompts
that were sampled from and as many tokens as came of them, one behind the other within an episode, as a program asks.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ajet.assemble.trainer import build_trainer
from ajet.config.compose import compose
from ajet.config.saved import save
from ajet.engine.vllm import VllmEngine
from ajet.records import Call, EpisodeGroup
from ajet.train.loop import Trainer

ENTRY = f"{Path(__file__).with_name('asking.py')}->"

PROGRAMS = {"AgentScope": "Asks", "OpenAI SDK": "AsksOpenAI", "HTTP": "AsksHttp"}


@contextmanager
def trainer_of(entry: str, *overrides: str) -> Iterator[Trainer]:
    """A run of which only play is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [
            "workflow=custom",
            f"workflow.entry='{ENTRY}{entry}'",
            "logger=quiet",
            "eval=none",
            "checkpoint.every=0",
        ]
        config = compose([*asked, *overrides], run_dir=folder)
        save(config, Path(folder) / "config.yaml")
        trainer = build_trainer(config)
        try:
            with trainer.play.runtime:
                yield trainer
        finally:
            trainer.close()


def call_cost(interface: str, at_once: int, *overrides: str, rounds: int) -> dict[str, float]:
    """Median seconds of one round by `ajet` and by `vLLM`."""
    taken: dict[str, list[float]] = {"ajet": [], "vLLM": []}
    shape = [f"rollout.num_tasks={max(1, at_once // 2)}", "rollout.group_size=2", f"rollout.concurrency={at_once}"]
    with trainer_of(PROGRAMS[interface], *shape, *overrides) as trainer:
        engine = trainer.engine
        assert isinstance(engine, VllmEngine)
        for step in range(rounds + 1):
            engine._llm.reset_prefix_cache()
            start = time.perf_counter()
            groups = trainer.play.training_step(step)
            middle = time.perf_counter()
            engine._llm.reset_prefix_cache()
            begin = time.perf_counter()
            _replay(engine, groups, at_once)
            end = time.perf_counter()
            if step:
                taken["ajet"].append(middle - start)
                taken["vLLM"].append(end - begin)
    return {side: statistics.median(seconds) for side, seconds in taken.items()}


def _replay(engine: VllmEngine, groups: list[EpisodeGroup], at_once: int) -> None:
    """The same requests by vLLM's own loop; a call follows when the one before it is done."""
    chains = [[call for call in episode.calls if call.trained] for group in groups for episode in group.episodes]
    waiting, running = list(reversed(chains)), 0
    behind: dict[str, list[Call]] = {}
    while waiting or running:
        while waiting and running < at_once:
            chain = waiting.pop()
            _add(engine, chain[0], behind, chain[1:])
            running += 1
        for output in engine._llm.step():
            if output.finished:
                rest = behind.pop(output.request_id)
                if rest:
                    _add(engine, rest[0], behind, rest[1:])
                else:
                    running -= 1


def _add(engine: VllmEngine, call: Call, behind: dict[str, list[Call]], rest: list[Call]) -> None:
    key = f"raw-{time.monotonic_ns()}-{len(behind)}"
    behind[key] = rest
    settings: dict[str, Any] = {
        "temperature": 1.0,
        "max_tokens": len(call.sampled_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "flat_logprobs": True,
        "detokenize": False,
        "seed": 1,
        "output_kind": engine._final_only,
    }
    engine._llm.add_request(key, engine._tokens_input(list(call.prompt_ids)), engine._sampling_params(**settings))
