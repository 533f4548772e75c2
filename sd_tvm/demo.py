"""The demonstration: EfficientNet-Lite0 from its ImageNet weights to cycles and energy per image.

Everything is real: the weights, the 20 labelled images, every integer that the simulator computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sd_tvm.accelerator.simulator import Profiler
    from sd_tvm.report import Metric, Report

Progress = Callable[[str, int, int], None]
#: Unlabelled photographs that calibrate activations and weights.
N_CALIBRATION = 32


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Attributes
    ----------
    report
        The report.
    model, library, json, html
        Files: the ``.sd`` file, the compiled library, the report twice.
    """

    report: Report
    model: Path
    library: Path
    json: Path
    html: Path


def run_demo(
    folder: str | PathLike[str],
    *,
    config: str | Path | None = None,
    n_images: int = 20,
    n_calibration: int = N_CALIBRATION,
    progress: Progress | None = None,
) -> DemoResult:
    """Take EfficientNet-Lite0 through the whole path.

    Parameters
    ----------
    folder
        Where the files go; made if it does not exist.
    config
        Accelerator configuration (name or YAML file); None is the default.
    n_images
        How many of the 20 labelled images run.
    n_calibration
        How many unlabelled photographs calibrate.
    progress
        Called with (step, done, total).

    Raises
    ------
    MissingExtraError
        If the demo's packages are not installed.
    ConfigError
        If the configuration does not exist or is invalid.
    """
    from sd_tvm import compress, load
    from sd_tvm.accelerator import DEFAULT_CONFIG
    from sd_tvm.accelerator.config import AcceleratorConfig
    from sd_tvm.data.samples import imagenet_samples
    from sd_tvm.execute import compile_module, load_executable
    from sd_tvm.models import efficientnet_lite0 as network
    from sd_tvm.report import write_html, write_json

    chosen = AcceleratorConfig.load(config or DEFAULT_CONFIG)
    report = progress or (lambda _step, _done, _total: None)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    samples = imagenet_samples()[:n_images]
    labels = [sample.label for sample in samples]
    images = [network.preprocess(sample.image) for sample in samples]

    torch_logits = _torch_logits(network.build(), images, report)
    file = out / "efficientnet-lite0.sd"
    compress(
        "sd_tvm.models.efficientnet_lite0:model",
        calibration=network.calibration_images(n_calibration),
        progress=report,
    ).save(file)

    report("compile", 0, 1)
    compiled = compile_module(load(file), config=chosen)
    library = out / "efficientnet-lite0.so"
    compiled.executable.export_library(str(library))
    report("compile", 1, 1)

    loaded = load_executable(library)
    logits, profiler = _simulate(loaded, images, chosen, report)
    result = _report(chosen, profiler, compiled.nodes, loaded)
    metrics = _metrics(torch_logits, logits, labels, load(file), file.stat().st_size)
    result = replace(result, metrics=(*metrics, *(_per_image(m) for m in result.metrics)))
    json_file = write_json(result, out / "report.json")
    return DemoResult(result, file, library, json_file, write_html(result, out / "report.html"))


def _torch_logits(model: Any, images: list[npt.NDArray[np.float32]], report: Progress) -> npt.NDArray[Any]:
    import torch

    rows = []
    report("float32 reference", 0, len(images))
    with torch.no_grad():
        for done, image in enumerate(images, start=1):
            rows.append(model(torch.from_numpy(image)).numpy())
            report("float32 reference", done, len(images))
    return np.concatenate(rows)


def _simulate(
    executable: Any, images: list[npt.NDArray[np.float32]], config: Any, report: Progress
) -> tuple[npt.NDArray[Any], Profiler]:
    """Logits of all images (functional), and the profile of the first one (timed)."""
    from sd_tvm.accelerator.simulator import Profiler
    from sd_tvm.errors import SimulatorError
    from sd_tvm.execute import Runner

    runner = Runner(executable)
    rows = []
    report("simulate", 0, len(images))
    for done, image in enumerate(images, start=1):
        rows.append(runner(image)[0])
        report("simulate", done, len(images))
    report("time one image", 0, 1)
    with Profiler(config, mode="timed") as profiler:
        again = runner(images[0])[0]
    report("time one image", 1, 1)
    if not np.array_equal(again, rows[0]):
        raise SimulatorError(
            "the timed run of an image gives other logits than the functional one",
            expected="equal integers: time never changes a result",
            fix="report this: the simulator is wrong",
        )
    return np.concatenate(rows), profiler


def _report(config: Any, profiler: Profiler, nodes: Any, library: Any) -> Report:
    from sd_tvm.profiling import make_calls, make_report

    title = f"EfficientNet-Lite0 on {config.name}"
    calls = make_calls(profiler.records, library, nodes)
    return make_report(title, profiler.records, config, nodes, totals=profiler.totals, calls=calls)


def _metrics(
    reference: npt.NDArray[Any], logits: npt.NDArray[Any], labels: list[int], model: Any, nbytes: int
) -> tuple[Metric, ...]:
    from sd_tvm.report import Metric

    def right(values: npt.NDArray[Any]) -> int:
        return int((values.argmax(axis=1) == np.array(labels)).sum())

    n = len(labels)
    return (
        Metric("top-1, float32", right(reference), f"of {n}"),
        Metric("top-1, SD form on the accelerator", right(logits), f"of {n}"),
        Metric("same answer as float32", int((reference.argmax(1) == logits.argmax(1)).sum()), f"of {n}"),
        Metric("file", nbytes, "bytes"),
        Metric("weights in float32", model.fp32_bytes, "bytes"),
        Metric("compression", model.fp32_bytes / nbytes, "x"),
    )


def _per_image(metric: Metric) -> Metric:
    names = {"energy": "energy per image", "cycles": "cycles per image"}
    return replace(metric, name=names.get(metric.name, metric.name))
