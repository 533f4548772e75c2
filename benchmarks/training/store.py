"""Trained networks as small files: state_dicts in float16, safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from .networks import NETWORKS

FOLDER = Path(__file__).with_name("weights")


def path_of(name: str, seed: int, folder: Path = FOLDER) -> Path:
    """File of a baseline."""
    return folder / f"{name}-seed{seed}.safetensors"


def save(model: nn.Module, path: Path, facts: dict[str, object]) -> None:
    """Write a state_dict in float16 and what is known of it."""
    tensors = {
        name: value.to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"facts": json.dumps(facts, sort_keys=True)})


def facts(path: Path) -> dict[str, object]:
    """What :func:`save` was told."""
    with safe_open(path, "np") as file:
        found: dict[str, object] = json.loads(file.metadata()["facts"])
    return found


def baseline(name: str, seed: int, folder: Path = FOLDER) -> nn.Module:
    """A trained network, float32 of its float16 numbers, in evaluation mode."""
    model = NETWORKS[name]()
    with safe_open(path_of(name, seed, folder), "np") as file:
        state = {key: torch.from_numpy(file.get_tensor(key).astype(np.float32)) for key in file.keys()}  # noqa: SIM118
    missing, unknown = model.load_state_dict(state, strict=False)
    wrong = [*unknown, *(k for k in missing if not k.endswith("num_batches_tracked"))]
    if wrong:
        raise ValueError(f"{path_of(name, seed, folder)} is no {name}: {wrong[:3]}")
    return model.eval().to(memory_format=torch.channels_last)
