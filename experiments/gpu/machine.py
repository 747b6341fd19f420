"""What is installed here of what ajet asks for, and which card there is: `python -m experiments.gpu.machine`."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
EXTRAS = ("agentscope", "real", "gpu")


def requirements() -> dict[str, str]:
    """Package -> what asks for it: ajet itself or an extra."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    asked = {name: "ajet" for name in map(_name, project["dependencies"])}
    for extra in EXTRAS:
        for name in map(_name, project["optional-dependencies"][extra]):
            asked.setdefault(name, f"ajet[{extra}]")
    return asked | {"pytest": "the part tests", "trl": "the part trl_loss", "datasets": "the part trl_loss"}


def installed(package: str) -> str | None:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=~!; ]", requirement)[0]


def main() -> None:
    """Print it."""
    for package, asking in requirements().items():
        print(f"{package:28} {installed(package) or 'MISSING':16} {asking}")
    import torch  # last: the list is worth reading where torch does not load

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print("GPUs:", ", ".join(cards) or "none")


if __name__ == "__main__":
    main()
