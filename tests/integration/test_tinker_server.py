"""What a client of the Tinker API builds on, shown of a real server: SkyRL's JAX backend with the small model."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import peft
import pytest
import tinker
import torch
from recipes.tinker_server.process import TinkerServer
from safetensors.torch import load_file

from ajet.config.model import resolve_model_path
from ajet.engine.checkpoint import load_causal_lm

pytestmark = pytest.mark.slow

MODEL = resolve_model_path("builtin:tiny")
KEY = "tml-dummy"
WITHIN_S = 120
PROMPT = [5, 6, 7, 8]
MAX_TOKENS = 16
NUM_ROWS = 4
"""Each length and number of rows compiles anew, so that all tests share these."""
RANK = 8
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PLAIN = tinker.AdamParams(learning_rate=1e-2)


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence with an advantage for each of its tokens but the first."""

    ids: list[int]
    advantages: list[float]
    logprobs: list[float]
    """As sampled; 0 in the prompt, whose advantages are 0."""

    def datum(self, scale: float = 1.0) -> tinker.Datum:
        return tinker.Datum(
            model_input=tinker.ModelInput.from_ints(self.ids[:-1]),
            loss_fn_inputs={
                "target_tokens": tinker.TensorData.from_numpy(np.array(self.ids[1:], dtype=np.int64)),
                "logprobs": tinker.TensorData.from_numpy(np.array(self.logprobs, dtype=np.float32)),
                "advantages": tinker.TensorData.from_numpy(np.array(self.advantages, dtype=np.float32) * scale),
            },
        )


@pytest.fixture(scope="module")
def service(tinker_server: TinkerServer) -> tinker.ServiceClient:
    """Not closed: SkyRL does not know the end of a session, and answers 404."""
    return tinker.ServiceClient(base_url=tinker_server.url, api_key=KEY)


@pytest.fixture
def training(service: tinker.ServiceClient, tinker_server: TinkerServer) -> Iterator[tinker.TrainingClient]:
    """A new adapter; its place in the server is given back."""
    client = service.create_lora_training_client(base_model=MODEL, rank=RANK, seed=1).result(WITHIN_S)
    yield client
    unload(tinker_server, client)


def unload(server: TinkerServer, client: tinker.TrainingClient) -> None:
    httpx.post(f"{server.url}/api/v1/unload_model", json={"model_id": client.model_id}, headers={"X-API-Key": KEY})


def sampled(client: tinker.SamplingClient, *, seed: int = 3, num: int = NUM_ROWS) -> Sequence[tinker.SampledSequence]:
    params = tinker.SamplingParams(max_tokens=MAX_TOKENS, seed=seed, temperature=1.0, stop=[])
    return client.sample(tinker.ModelInput.from_ints(PROMPT), num, params).result(WITHIN_S).sequences


def newest(training: tinker.TrainingClient) -> tinker.SamplingClient:
    return training.save_weights_and_get_sampling_client().result(WITHIN_S)


def rows_of(sequences: Sequence[tinker.SampledSequence]) -> list[Row]:
    """With advantages of both signs."""
    rows = []
    for index, sequence in enumerate(sequences):
        assert sequence.logprobs is not None
        prompt = [0.0] * (len(PROMPT) - 1)
        advantages = [(-1.0) ** index * (1 + 0.1 * position) for position in range(len(sequence.tokens))]
        rows.append(Row([*PROMPT, *sequence.tokens], [*prompt, *advantages], [*prompt, *sequence.logprobs]))
    return rows


def step(training: tinker.TrainingClient, data: list[tinker.Datum], adam: tinker.AdamParams = PLAIN) -> Any:
    """Both submitted before either is awaited."""
    passed = training.forward_backward(data, "importance_sampling")
    stepped = training.optim_step(adam)
    stepped.result(WITHIN_S)
    return passed.result(WITHIN_S)


def adapter_of(server: TinkerServer, training: tinker.TrainingClient, name: str, folder: Path) -> Path:
    """The adapter in PEFT format, whose target modules the server leaves open."""
    training.save_weights_for_sampler(name).result(WITHIN_S)
    url = f"{server.url}/api/v1/training_runs/{training.model_id}/checkpoints/{name}/archive"
    answer = httpx.get(url, headers={"X-API-Key": KEY}, follow_redirects=True).raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        archive.extractall(folder, filter="data")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] is None
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": PROJECTIONS}))
    return folder


def local_model(adapter: Path | None = None) -> Any:
    model: Any = load_causal_lm(MODEL, torch.float32, max_context=128)
    return model if adapter is None else peft.PeftModel.from_pretrained(model, str(adapter), is_trainable=True)


def logprobs_of(model: Any, row: Row) -> torch.Tensor:
    """Of each token but the first, [len(ids) - 1]."""
    ids = torch.tensor([row.ids])
    every = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
    return every.gather(1, ids[0, 1:, None])[:, 0]


def test_sampled_logprobs_are_those_of_transformers_in_float32(service: tinker.ServiceClient) -> None:
    client = service.create_sampling_client(base_model=MODEL).result(WITHIN_S)
    model = local_model()
    for row in rows_of(sampled(client)):
        with torch.no_grad():
            assert logprobs_of(model, row)[-MAX_TOKENS:].tolist() == pytest.approx(row.logprobs[-MAX_TOKENS:], abs=1e-4)


def test_a_seed_says_what_is_sampled_and_the_next_sample_of_a_request_has_the_next_seed(
    service: tinker.ServiceClient,
) -> None:
    client = service.create_sampling_client(base_model=MODEL).result(WITHIN_S)
    first, second, *_ = sampled(client, seed=2**31 - 10)
    assert first.tokens != second.tokens
    assert [sequence.tokens for sequence in sampled(client, seed=2**31 - 10)][:2] == [first.tokens, second.tokens]
    assert sampled(client, seed=2**31 - 9, num=1)[0].tokens == second.tokens


def test_a_step_changes_the_weights_that_new_clients_sample_from(
    training: tinker.TrainingClient, tinker_server: TinkerServer, tmp_path: Path
) -> None:
    rows = rows_of(sampled(newest(training)))
    passed = step(training, [row.datum() for row in rows])
    for row, output in zip(rows, passed.loss_fn_outputs, strict=True):
        assert output["logprobs"].tolist()[-MAX_TOKENS:] == pytest.approx(row.logprobs[-MAX_TOKENS:], abs=1e-4)
    again = rows_of(sampled(newest(training)))
    assert [row.ids for row in again] != [row.ids for row in rows]
    # The exported adapter is what they come from.
    model = local_model(adapter_of(tinker_server, training, "exported", tmp_path))
    with torch.no_grad():
        for row in again:
            assert logprobs_of(model, row)[-MAX_TOKENS:].tolist() == pytest.approx(row.logprobs[-MAX_TOKENS:], abs=1e-4)


def test_a_saved_state_goes_on_as_if_nothing_had_happened(
    service: tinker.ServiceClient, training: tinker.TrainingClient, tinker_server: TinkerServer
) -> None:
    data = [row.datum() for row in rows_of(sampled(newest(training)))]
    step(training, data)
    path = training.save_state("saved").result(WITHIN_S).path
    other = service.create_lora_training_client(base_model=MODEL, rank=RANK, seed=2).result(WITHIN_S)
    # What the client recommends in its place, SkyRL answers with 422.
    with pytest.deprecated_call(match="load_state"):
        other.load_state_with_optimizer(path).result(WITHIN_S)
    for client in (training, other):
        step(client, data)
    ids, others_ids = ([sequence.tokens for sequence in sampled(newest(client))] for client in (training, other))
    unload(tinker_server, other)
    assert ids == others_ids


def test_a_client_that_was_not_the_last_to_be_saved_samples_from_other_weights_than_it_was_made_with(
    training: tinker.TrainingClient,
) -> None:
    """SkyRL's JAX backend holds one set of weights a model: only the newest client may be asked."""
    before = newest(training)
    rows = rows_of(sampled(before))
    step(training, [row.datum() for row in rows])
    assert [row.ids for row in rows_of(sampled(before))] != [row.ids for row in rows]


READ_GRADIENT = tinker.AdamParams(learning_rate=1e7, beta1=0.0, beta2=0.0, eps=1e7)
"""Adam without memory whose update is the gradient itself, g / (1 + |g| / 1e7)."""


def weights_in(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / "adapter_model.safetensors")


def change(before: Path, after: Path) -> torch.Tensor:
    """Of all weights that training moved, negative: the gradient that it stepped along."""
    first, last = weights_in(before), weights_in(after)
    return torch.cat([(first[name] - last[name]).flatten() for name in sorted(first)])


def shared(name: str) -> str:
    """The same for matrices that are one in the server: fused projections share A, which it exports as copies."""
    fused = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
    module = name.split(".")[-3]
    return name.replace(module, fused.get(module, module)) if "lora_A" in name else name


def local_gradient(adapter: Path, rows: Sequence[Row], loss: Any) -> torch.Tensor:
    """Of the sum over rows of `loss(log-probabilities, row)`; copies of one matrix have the sum of theirs."""
    model = local_model(adapter)
    sum(loss(logprobs_of(model, row), row) for row in rows).backward()
    found = {name.replace(".default", ""): parameter.grad for name, parameter in model.named_parameters()}
    names = sorted(weights_in(adapter))
    totals: dict[str, Any] = {}
    for name in names:
        totals[shared(name)] = totals.get(shared(name), 0.0) + found[name]
    return torch.cat([totals[shared(name)].flatten() for name in names])


def importance_sampling(logprobs: torch.Tensor, row: Row) -> torch.Tensor:
    """Token sum, as the hosted service has it."""
    ratios = torch.exp(logprobs - torch.tensor(row.logprobs))
    return -(ratios * torch.tensor(row.advantages)).sum()


def quadratic(logprobs: torch.Tensor, row: Row) -> torch.Tensor:
    """A loss that no server knows."""
    return ((logprobs + 1.0) ** 2 * torch.tensor(row.advantages)).sum()


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()


def moved(training: tinker.TrainingClient, rows: list[Row]) -> list[Row]:
    """The rows, once a step has given both halves of the adapter a gradient."""
    step(training, [row.datum() for row in rows])
    return rows


def test_the_loss_is_the_mean_over_sequences_of_the_mean_over_positions(
    training: tinker.TrainingClient, tinker_server: TinkerServer, tmp_path: Path
) -> None:
    """The token sum's gradient comes from advantages times positions times sequences of the whole optimizer step."""
    rows = moved(training, rows_of(sampled(newest(training))))
    before = adapter_of(tinker_server, training, "before", tmp_path / "before")
    # A longer prompt tells positions apart from sampled tokens, two passes a step from sequences a pass.
    longer = [Row([9] * 6 + row.ids, [0.0] * 6 + row.advantages, [0.0] * 6 + row.logprobs) for row in rows]
    for batch in (rows, longer):
        data = [row.datum(scale=2 * NUM_ROWS * (len(row.ids) - 1)) for row in batch]
        training.forward_backward(data, "importance_sampling").result(WITHIN_S)
    training.optim_step(READ_GRADIENT).result(WITHIN_S)
    stepped = change(before, adapter_of(tinker_server, training, "after", tmp_path / "after"))
    gradient = local_gradient(before, [*rows, *longer], importance_sampling)
    assert cosine(stepped, gradient) == pytest.approx(1.0, abs=1e-4)
    assert (stepped.norm() / gradient.norm()).item() == pytest.approx(1.0, abs=1e-2)


def test_any_loss_of_logprobs_comes_from_importance_sampling_at_the_current_logprobs(
    training: tinker.TrainingClient, tinker_server: TinkerServer, tmp_path: Path
) -> None:
    rows = moved(training, rows_of(sampled(newest(training))))
    before = adapter_of(tinker_server, training, "before", tmp_path / "before")
    outputs = training.forward([row.datum() for row in rows], "importance_sampling").result(WITHIN_S).loss_fn_outputs
    data = []
    for row, output in zip(rows, outputs, strict=True):
        logprobs = torch.tensor(output["logprobs"].tolist(), requires_grad=True)
        (slopes,) = torch.autograd.grad(quadratic(logprobs, row), logprobs)
        linear = Row(row.ids, (-slopes).tolist(), logprobs.tolist())
        data.append(linear.datum(scale=NUM_ROWS * (len(row.ids) - 1)))
    step(training, data, READ_GRADIENT)
    stepped = change(before, adapter_of(tinker_server, training, "after", tmp_path / "after"))
    gradient = local_gradient(before, rows, quadratic)
    assert cosine(stepped, gradient) == pytest.approx(1.0, abs=1e-4)
    assert (stepped.norm() / gradient.norm()).item() == pytest.approx(1.0, abs=1e-2)
