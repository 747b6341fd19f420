"""What vLLM's worker processes learn from us: to take new weights from a file, and to remove adapters.

In: the path of a safetensors file with Hugging Face names. Out: the worker's model with these weights. A server is
started with `--worker-extension-cls ajet.engine.vllm_worker.WeightsFromFile`. On GPUs vLLM has a transfer of its own
(NCCL, IPC), on the CPU it has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from ajet.engine.vllm_engine import repack_tied_output_layer


class WeightsFromFile:
    """Mixed into vLLM's worker class, which has `reload_weights` and `get_model`."""

    def sees(self, folder: str) -> bool:
        """Whether a folder is there, on the worker's machine."""
        return Path(folder).is_dir()

    def keep_newest_adapters(self: Any, num: int) -> None:
        """Remove all adapters but the `num` that were loaded last; vLLM itself only forgets their names."""
        numbers = sorted(self.list_loras())
        for number in numbers[: len(numbers) - num]:
            self.remove_lora(number)

    def load_weights_from(self: Any, path: str) -> None:
        """Put a file's weights in place; an empty path stands for the checkpoint that the server was started with."""
        if path:
            with safe_open(path, framework="pt") as file:
                # A tensor at a time: the file may be as large as the model.
                self.reload_weights(weights_iterator=((name, file.get_tensor(name)) for name in file.keys()))  # noqa: SIM118
        else:
            self.reload_weights()
        if self.device.type == "cpu":
            repack_tied_output_layer(self.get_model())
