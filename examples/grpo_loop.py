"""GRPO in one loop, for whoever wants their own: two agents learn to signal, with ajet's parts and without its trainer.

    python examples/grpo_loop.py --steps 100

A speaker sees an object and says a word, a listener hears the word and picks an object, both are paid for a match; no
word means anything until they agree. The model ships with ajet, so nothing is downloaded and no GPU is needed. What
`ajet.train` adds: any agent program, retries, checkpoints, evaluation, metrics, and settings that are checked.
"""

from __future__ import annotations

import argparse
import asyncio
from statistics import fmean

import torch
from accelerate import Accelerator
from transformers import AutoTokenizer

from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatRequest
from ajet.config.algorithm import AlgorithmConfig
from ajet.config.model import resolve_model_path
from ajet.data.randomness import derive_rng, derive_seed
from ajet.engine.base import Engine, SamplingRequest
from ajet.engine.checkpoint import load_causal_lm
from ajet.engine.transformers import TransformersConfig
from ajet.engine.transformers_engine import TransformersEngine
from ajet.records import Call, Episode, EpisodeGroup, Task
from ajet.train.algorithms.rule import LearningRule, learning_rule
from ajet.train.algorithms.weights import batch_totals
from ajet.train.packing import Pack, build_packs
from ajet.train.policy import TrainablePolicy
from ajet.train.timeline import build_samples
from ajet.workflows.signals.game import OBJECTS, WORDS, listener_prompt, speaker_prompt

TAGS = ("listener", "speaker")
NUM_OBJECTS, MAX_CONTEXT, TEMPERATURE = 4, 256, 1.0


class Player:
    """Both agents: one model, asked through one chat template."""

    def __init__(self, engine: Engine, renderer: ChatRenderer) -> None:
        self.engine, self.renderer = engine, renderer

    async def ask(self, tag: str, prompt: str, *, index: int, seed: int) -> Call:
        """One model call, with the ids that were sampled and their log-probabilities: what is trained on."""
        messages = ({"role": "user", "content": prompt},)
        ids = self.renderer.prompt_ids(ChatRequest(messages=messages), Conversation())
        request = SamplingRequest(
            prompt_ids=ids, max_tokens=8, temperature=TEMPERATURE, seed=seed, stop_ids=self.renderer.stop_ids
        )
        done = await self.engine.generate(request)
        return Call(
            index=index,
            agent_name=tag,
            target_tag=tag,
            trained=True,
            messages=messages,
            reply=self.renderer.reply_text(done.token_ids).strip(),
            prompt_ids=ids,
            sampled_ids=done.token_ids,
            logprobs=done.logprobs,
            policy_version=done.policy_version,
        )

    async def play(self, task: Task, repeat: int, seed: int) -> Episode:
        """One round: a word, a pick, a reward for both."""
        objects, words = OBJECTS[:NUM_OBJECTS], WORDS[:NUM_OBJECTS]
        shown = derive_rng(seed, task.task_id).choice(objects)
        own = derive_seed(seed, task.task_id, repeat)  # every call has a generator of its own
        calls = [await self.ask("speaker", speaker_prompt(shown, words), index=0, seed=own)]
        word = calls[0].reply
        if word in words:
            calls.append(await self.ask("listener", listener_prompt(word, objects), index=1, seed=own + 1))
        matched = calls[-1].reply == shown
        return Episode(
            task=task,
            repeat=repeat,
            status="ok",
            rewards=dict.fromkeys(TAGS, float(matched)),
            agent_tags={tag: tag for tag in TAGS},
            calls=tuple(calls),
            is_success=matched,
        )

    async def collect(self, step: int, *, num_tasks: int, group_size: int, seed: int) -> list[EpisodeGroup]:
        """Groups of one step: the same object for all episodes of a group, played side by side."""
        tasks = [Task(task_id=f"{step}-{number}") for number in range(num_tasks)]
        episodes = await asyncio.gather(*(self.play(task, i, seed) for task in tasks for i in range(group_size)))
        size = group_size
        return [
            EpisodeGroup(task=task, episodes=tuple(episodes[n * size : (n + 1) * size])) for n, task in enumerate(tasks)
        ]


def packs_of(groups: list[EpisodeGroup], rule: LearningRule, policy: TrainablePolicy) -> list[Pack]:
    """Rewards -> advantages per (task, tag) -> rows -> weights in the loss -> packs (a shared token stands once)."""
    credited = [rule.group_advantages(group) for group in groups]
    rows = [
        row
        for group, credit in zip(groups, credited, strict=True)
        for episode in group.episodes
        for row in build_samples(episode, credit.of_tokens[episode.repeat])
    ]
    weights = rule.token_weights(rows, batch_totals(rows))
    return build_packs(rows, weights, TAGS, max_tokens=2048, branches=policy.why_chains_only is None)


def train(*, steps: int, num_tasks: int = 16, group_size: int = 16, seed: int = 0) -> list[float]:
    """The loop. Returns the mean reward of each step's episodes, before its update."""
    path = resolve_model_path("builtin:tiny")
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(path))
    engine = TransformersEngine(TransformersConfig(max_concurrency=256), path, max_context=MAX_CONTEXT)
    # The pull to the starting model keeps words in play that two objects would otherwise share for good, then lets go.
    rule = learning_rule(AlgorithmConfig(learning_rate=6e-4, warmup_steps=2, kl_coef=0.5, kl_schedule="linear"))
    policy = TrainablePolicy(
        load_causal_lm(path, torch.float32, max_context=MAX_CONTEXT),
        tokenizer=AutoTokenizer.from_pretrained(path),
        accelerator=Accelerator(cpu=True),
        rule=rule,
        temperature=TEMPERATURE,
        total_steps=steps,
        reference=load_causal_lm(path, torch.float32, max_context=MAX_CONTEXT),
        recompute_layers=False,
        num_threads=None,
    )
    player, rewards = Player(engine, renderer), []
    with asyncio.Runner() as runner:  # one loop, for the engine keeps its futures there
        for step in range(steps):
            groups = runner.run(player.collect(step, num_tasks=num_tasks, group_size=group_size, seed=seed))
            metrics = policy.train_batch([packs_of(groups, rule, policy)], TAGS, num_steps_done=step)
            engine.update_weights(policy.merged_weights(), step + 1)
            rewards.append(fmean(float(bool(e.is_success)) for group in groups for e in group.episodes))
            print(f"step {step + 1}/{steps}  reward {rewards[-1]:.3f}  entropy {metrics['policy/speaker/entropy']:.3f}")
    engine.close()
    return rewards


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    train(**vars(parser.parse_args()))
