"""Accuracy of recipes on EfficientNet-Lite0: bytes of the file, agreement with float32, top-1.

    python -m benchmarks.accuracy default codebook64 --images FOLDER --photographs 48 --out OUT

FOLDER holds ImageNet images, ``CLASS.jpg`` by class index. With ``--calibrate N``, N of them chosen
by ``--seed`` calibrate instead of photographs; what calibrates never evaluates. The network runs as the
accelerator would run it (integer layers, 8-bit activations), on the CPU: both give the same integers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import sd_tvm
from sd_tvm.data.samples import imagenet_samples, read_image
from sd_tvm.models import efficientnet_lite0 as network

from .compression.answers import compare, integer_logits

Array = npt.NDArray[Any]
MODEL = "sd_tvm.models.efficientnet_lite0:model"


def float_logits(images: Array) -> Array:
    """Logits of the uncompressed network, (N, 1000)."""
    import torch

    model = network.build()
    with torch.no_grad():
        return np.concatenate([model(torch.from_numpy(x[None])).numpy() for x in images])


def measure(recipe: str, calibration: Array, sets: dict[str, tuple[Array, Array, Array]], out: Path) -> Any:
    """Compress with a recipe and evaluate; sets are name -> (images, float32 logits, labels)."""
    start, cpu = time.time(), time.process_time()
    model = sd_tvm.compress(MODEL, recipe=recipe, calibration=calibration)
    size = model.save(out / f"{Path(recipe).stem}.sd")
    spent = {"seconds": time.time() - start, "cpu_seconds": time.process_time() - cpu}
    kinds = [row["kind"] for row in model.report]
    row: dict[str, Any] = {"recipe": recipe, "file": size, "ratio": model.fp32_bytes / size, **spent}
    row |= {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    for name, (images, reference, labels) in sets.items():
        row[name] = compare(reference, integer_logits(model, images), labels)
    return row


def main(arguments: Sequence[str]) -> int:
    """Measure every recipe in one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="+", help="presets or YAML files")
    parser.add_argument("--images", type=Path, required=True, help="folder of CLASS.jpg")
    parser.add_argument("--photographs", type=int, default=48, help="of scikit-image, for calibration")
    parser.add_argument("--calibrate", type=int, default=0, help="images of the folder, for calibration")
    parser.add_argument("--evaluate", type=int, default=0, help="images of the folder at most; 0: the rest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the .sd files and accuracy.json")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    files = sorted(options.images.glob("*.jpg"), key=lambda p: int(p.stem))
    order = np.random.default_rng(options.seed).permutation(len(files))
    chosen, rest = order[: options.calibrate], order[options.calibrate :]
    if options.evaluate:
        rest = rest[: options.evaluate]
    if options.calibrate:
        calibration = network.preprocess_all(read_image(files[i]) for i in chosen)
    else:
        calibration = network.calibration_images(options.photographs)
    sets = {}
    samples = imagenet_samples()
    for name, labelled in (
        ("foolbox", [(s.image, s.label) for s in samples]),
        ("samples", [(read_image(files[i]), int(files[i].stem)) for i in rest]),
    ):
        images = network.preprocess_all(image for image, _ in labelled)
        sets[name] = (images, float_logits(images), np.array([label for _, label in labelled]))
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seed": options.seed,
        "calibration": [len(calibration), "samples" if options.calibrate else "photographs"],
        "rows": [],
    }
    for recipe in options.recipe:
        result["rows"].append(measure(recipe, calibration, sets, options.out))
        print(json.dumps(result["rows"][-1]), file=sys.stderr, flush=True)
        (options.out / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
