"""The README.md of a saved model: what it is, where it comes from, how to use it. A config in, text out."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from ajet.config.root import Config

ADAPTER = "adapter"
"""The folder of an adapter in PEFT's format, within the model's."""

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
{base_line}tags:
- ajet
- reinforcement-learning
---

# {base} after {num_steps} training steps of {workflow}

Trained with ajet: the language model behind {roles} of the multi-agent program
`{workflow}`, with the {loss} loss, {aggregation} aggregation and {advantage} advantages{adapters},
{num_tasks} tasks of {group_size} episodes a step.

- starting model: `{base}`
- run: `{run_dir}` (seed {seed}); its `config.yaml` has every setting, its `metrics.jsonl` the curves
- whether it is better than the starting model: `python -m ajet.evaluate run={run_dir}`

{use}It was trained on what it sampled at temperature {temperature:g}, with at most {max_context} tokens of prompt and
reply.
"""


_USE = """\
## Use

An OpenAI-compatible server:

    vllm serve {quoted} --served-model-name {name}

In Python:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{path}")
model = AutoModelForCausalLM.from_pretrained("{path}")
messages = [{{"role": "user", "content": "Hello"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
reply = model.generate(**prompt, max_new_tokens=64, do_sample=True, temperature={temperature:g})
print(tokenizer.decode(reply[0, prompt["input_ids"].shape[1] :]))
```

"""
_USE_OF_ADAPTER = """\
## Use

The adapter, in PEFT's format, is in `adapter`; what it is put on is `{base}`. With `peft`:

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("{path}/adapter")
```

"""
_ON_SERVER = """\
## Use

Its weights could not be fetched from the server that trained it, which has them as long as it keeps this run's state:
`python -m ajet.train resume=...` goes on from there.

"""


def model_card(config: Config, folder: Path, saved: Path) -> str:
    """The card of a model.

    Args:
        config: of the run.
        folder: `checkpoints/step_<n>/model`, where the model will lie.
        saved: where its files are now: a server's model is put together with its adapter only where its weights lie
            here, and what cannot be fetched is not there.
    """
    base = config.model.path
    is_hub_id = not base.startswith(("/", "builtin:"))
    is_whole = any(saved.glob("*.safetensors"))
    name = f"{Path(config.run_dir).name}-{folder.parent.name}"
    path, quoted = folder.resolve(), quote(str(folder.resolve()))
    words = _USE if is_whole else _USE_OF_ADAPTER if (saved / ADAPTER).is_dir() else _ON_SERVER
    use = words.format(base=base, path=path, quoted=quoted, name=name, temperature=config.rollout.temperature)
    merged = " merged in" if is_whole else ""
    return _CARD.format(
        use=use,
        base_line=f"base_model: {base}\n" if is_hub_id else "",
        base=base,
        num_steps=folder.parent.name.removeprefix("step_"),
        workflow=config.workflow.entry,
        roles=", ".join(config.trainable_targets) if config.trainable_targets else "every agent",
        loss=config.algorithm.loss,
        aggregation=config.algorithm.aggregation,
        advantage=config.algorithm.advantage,
        adapters=f", adapters of rank {config.model.lora.rank}{merged}" if config.model.lora.rank else "",
        num_tasks=config.rollout.num_tasks,
        group_size=config.rollout.group_size,
        run_dir=config.run_dir,
        seed=config.seed,
        temperature=config.rollout.temperature,
        max_context=config.model.max_context,
    )
