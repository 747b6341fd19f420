"""The best that one role can reach while the other stays frozen, computed exactly from the frozen model.

    python experiments/signals/bound.py [--model builtin:tiny] [--objects 4] [--words 4]

A speaker that faces a fixed listener does best to send, for each object, the word that makes the listener pick it
most often: mean over objects of max over words of P(object | word). A listener that faces a fixed speaker does best to
pick, for each word, the likeliest object: sum over words of max over objects of P(word | object) / n.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ajet.chat.renderer import ChatRenderer, Conversation
from ajet.chat.types import ChatRequest
from ajet.config.model import resolve_model_path
from ajet.workflows.signals.game import OBJECTS, WORDS, listener_prompt, speaker_prompt


def reply_probabilities(model_path: str, prompts: list[str], replies: tuple[str, ...]) -> torch.Tensor:
    """[prompt, reply]: the probability of answering with exactly this reply."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    renderer = ChatRenderer(tokenizer)
    table = torch.zeros(len(prompts), len(replies))
    for i, prompt in enumerate(prompts):
        ids = renderer.prompt_ids(ChatRequest(messages=[{"role": "user", "content": prompt}]), Conversation())
        for j, reply in enumerate(replies):
            answer = (*tokenizer.encode(reply, add_special_tokens=False), renderer.turn_end_id)
            with torch.no_grad():
                logp = model(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1)
            steps = range(len(ids) - 1, len(ids) + len(answer) - 1)
            table[i, j] = sum(logp[t, token] for t, token in zip(steps, answer, strict=True)).exp()
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="builtin:tiny")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--words", type=int, default=4)
    arguments = parser.parse_args()
    path = resolve_model_path(arguments.model)
    objects, words = OBJECTS[: arguments.objects], WORDS[: arguments.words]
    listener = reply_probabilities(path, [listener_prompt(word, objects) for word in words], objects)
    speaker = reply_probabilities(path, [speaker_prompt(shown, words) for shown in objects], words)
    print(f"both frozen               {float((speaker @ listener).diagonal().mean()):.3f}")
    print(f"speaker's best, frozen listener  {float(listener.max(dim=0).values.mean()):.3f}")
    print(f"listener's best, frozen speaker  {float(speaker.max(dim=0).values.sum() / len(objects)):.3f}")


if __name__ == "__main__":
    main()
