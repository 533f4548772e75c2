"""Logits of the compiled integers, and what is said of logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import sd_tvm
from sd_tvm.execute import Runner, compile_module

Array = npt.NDArray[Any]


def integer_logits(model: sd_tvm.CompressedModel, images: Array) -> Array:
    """Logits of the integer layers, (N, 1000)."""
    runner = Runner(compile_module(model, "llvm").executable)
    return np.concatenate([runner(x[None])[0] for x in images])


def compare(reference: Array, found: Array, labels: Array) -> dict[str, float]:
    """Agreement and top-1 in per cent, KL divergence from the reference in nats."""
    p, q = _log_softmax(reference), _log_softmax(found)
    best = found.argmax(axis=1)
    return {
        "images": len(labels),
        "agree": 100 * float((best == reference.argmax(axis=1)).mean()),
        "top1": 100 * float((best == labels).mean()),
        "top1_float": 100 * float((reference.argmax(axis=1) == labels).mean()),
        "kl": float((np.exp(p) * (p - q)).sum(axis=1).mean()),
    }


def _log_softmax(logits: Array) -> Array:
    x = logits.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))
