"""EfficientNet-Lite0 with weights that were really fitted in 4:16, run on a real image.

A bit-serial array's time and energy depend on the digits of the activations, so its programs are executed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import Profiler

CONFIGS = ("smartexchange-28nm-parallel", "smartexchange-28nm")
CALIBRATION = 16


@dataclass(frozen=True)
class Executed:
    """Sums of one run."""

    config: str
    cycles: int
    energy_fj: int
    mac_fj: int


def run_real() -> list[Executed]:
    """Fit, compile and run for each of :data:`CONFIGS`."""
    import sd_tvm
    from sd_tvm.data.samples import imagenet_samples
    from sd_tvm.execute import Runner, compile_module
    from sd_tvm.models import efficientnet_lite0

    model = sd_tvm.compress(
        *efficientnet_lite0.model(),
        recipe="sd-4:16",
        calibration=efficientnet_lite0.calibration_images(CALIBRATION),
    )
    image = efficientnet_lite0.preprocess(imagenet_samples()[0].image)
    rows = []
    for name in CONFIGS:
        runner = Runner(compile_module(model, f"sd_accel/{name}").executable)
        with Profiler(AcceleratorConfig.load(name)) as profiler:
            runner(image)
        stats = [record["stats"] for record in profiler.records]
        rows.append(
            Executed(
                name,
                sum(s["cycles"] for s in stats),
                sum(s["energy_total_fj"] for s in stats),
                sum(s["energy_fj"]["mac"] + s["energy_fj"]["psum"] for s in stats),
            )
        )
    return rows
