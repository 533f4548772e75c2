"""Searches schedules for TVM in float32 by MetaSchedule, and stores the best of each row.

For one thread. Candidates are compiled and timed in this process: MetaSchedule's own workers import
all of TVM's tensor intrinsics first, which takes longer than it waits for a candidate.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

os.environ["TVM_NUM_THREADS"] = "1"

import numpy as np

from sd_tvm._tvm import tvm
from sd_tvm.errors import OptionError, SDError
from sd_tvm.schedules.cpu.isa import Isa

from .shapes import BATCHES, CONVS, VECTORS, Conv, Dense
from .tvm_fp32 import block_sizes, function, read_records, write_records
from .workloads import host_isas

#: Candidates between two fits of the cost model.
_GENERATION = 16
#: Traces that are bred of a generation, and how often (MetaSchedule's own: 512, 4).
_POPULATION, _BREEDINGS = 128, 3
#: Calls of a candidate after the first, if that was not twice as slow as the best.
_CALLS = 5

Progress = Callable[[int, float], None]


def search(shape: Dense | Conv, lanes: int, isa: Isa, trials: int, progress: Progress) -> tuple[float, Any]:
    """(seconds, trace as JSON) of the best candidate.

    Parameters
    ----------
    shape, lanes
        What is scheduled.
    isa
        Its target is that of our kernels.
    trials
        Candidates that are timed.
    progress
        Called with (candidates timed, seconds of the best so far).
    """
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.meta_schedule.cost_model import XGBModel

    module = tvm.IRModule({"main": function(shape, lanes)})
    context = ms.TuneContext(
        module,
        target=tvm.target.Target(isa.target),
        space_generator=_space(ms),
        search_strategy=ms.search_strategy.EvolutionarySearch(
            population_size=_POPULATION, genetic_num_iters=_BREEDINGS, max_fail_count=20
        ),
        rand_state=1,
        num_threads=1,
        logger=logging.getLogger("quiet"),
    )
    builder, runner = _in_this_process(ms, progress)
    database = ms.database.MemoryDatabase()
    ms.tune.tune_tasks(
        tasks=[context.clone()], task_weights=[1.0], work_dir="", max_trials_global=trials,
        num_trials_per_iter=_GENERATION, builder=builder, runner=runner, database=database,
        cost_model=XGBModel(num_warmup_samples=_GENERATION, num_tuning_cores=1, verbose_eval=0),
        measure_callbacks=[ms.measure_callback.AddToDatabase(), ms.measure_callback.UpdateCostModel()],
        task_scheduler="round-robin",
    )  # fmt: skip
    found = database.get_top_k(database.commit_workload(module), 1)
    if not found:
        raise OptionError(f"{shape.key}: no candidate ran", expected="one", fix="more --trials")
    return float(found[0].run_secs[0]), _plain(found[0].trace.as_json())


def _space(ms: Any) -> Any:
    """Multi-level tiles, vectors of up to 64 lanes and unrolling; no parallel loop."""
    rule, post, mutator = ms.schedule_rule, ms.postproc, ms.mutator
    return ms.space_generator.PostOrderApply(
        sch_rules=[
            rule.AutoInline(
                into_producer=False, into_consumer=True, inline_const_tensor=True, disallow_if_then_else=True,
                require_injective=True, require_ordered=True,
            ),
            rule.MultiLevelTiling(
                structure="SSRSRS", max_innermost_factor=64,
                reuse_write=rule.ReuseType("may", [1, 2], "global"),
            ),
            rule.ParallelizeVectorizeUnroll(
                max_jobs_per_core=-1, max_vectorize_extent=64, unroll_max_steps=[16, 64, 512]
            ),
            rule.RandomComputeLocation(),
        ],
        postprocs=[
            post.DisallowDynamicLoop(), post.RewriteParallelVectorizeUnroll(), post.RewriteReductionBlock()
        ],
        mutator_probs={
            mutator.MutateTileSize(): 0.9, mutator.MutateComputeLocation(): 0.05, mutator.MutateUnroll(): 0.05
        },
    )  # fmt: skip


def _in_this_process(ms: Any, progress: Progress) -> tuple[Any, Any]:
    """(builder, runner); the former's artefacts are names, by which the latter finds a function."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.runner import PyRunnerFuture

    modules: dict[str, Any] = {}
    best = [float("inf")]
    done = [0]
    tensors: list[Any] = []

    @derived_object
    class Builder(ms.builder.PyBuilder):  # type: ignore[misc]
        def build(self, build_inputs: list[Any]) -> list[Any]:
            out = []
            for given in build_inputs:
                name = str(len(modules))
                try:
                    modules[name] = tvm.compile(given.mod, target=given.target)
                except Exception as error:  # a candidate that TVM cannot compile is none
                    out.append(ms.builder.BuilderResult(None, str(error)[-300:]))
                else:
                    out.append(ms.builder.BuilderResult(name, None))
            return out

    @derived_object
    class Known(PyRunnerFuture):  # type: ignore[misc]
        def __init__(self, result: Any) -> None:
            super().__init__()
            self.known = result

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return self.known

    @derived_object
    class Runner(ms.runner.PyRunner):  # type: ignore[misc]
        def run(self, runner_inputs: list[Any]) -> list[Any]:
            out = []
            for given in runner_inputs:
                if not tensors:
                    rng = np.random.default_rng(0)
                    shapes = [tuple(int(n) for n in a.shape) for a in given.args_info]
                    tensors.extend(tvm.runtime.tensor(rng.random(s, np.float32)) for s in shapes)
                seconds = _seconds(modules.pop(str(given.artifact_path))["main"], tensors, best[0])
                best[0] = min(best[0], seconds)
                out.append(Known(ms.runner.RunnerResult([seconds], None)))
            done[0] += len(out)
            modules.clear()
            progress(done[0], best[0])
            return out

    return Builder(), Runner()


def _seconds(call: Callable[..., object], arguments: list[Any], best: float) -> float:
    """Least time of a call; of one, if that is hopeless."""
    least = float("inf")
    for _ in range(1 + _CALLS):
        start = time.process_time()
        call(*arguments)
        least = min(least, time.process_time() - start)
        if least > 2 * best:
            break
    return least


def _plain(value: Any) -> Any:
    """TVM's arrays, strings and numbers as Python's."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "value"):
        return value.value
    return [_plain(v) for v in value]


def main(arguments: Sequence[str]) -> int:
    """Search and store."""
    parser = argparse.ArgumentParser(prog="python -m cpu.tune_tvm", description=__doc__)
    parser.add_argument("--trials", type=int, default=96, help="candidates of a row and a block size")
    parser.add_argument("--only", default="", help="rows whose name contains this; others stay as they were")
    parser.add_argument("--isa", default="", help="instruction set; without: the best that is here")
    options = parser.parse_args(arguments)
    isas = host_isas(options.isa)
    if not isas:
        parser.error(f"this machine has no {options.isa or 'instruction set of the table'}")
    if find_spec("xgboost") is None:
        raise OptionError("no xgboost, MetaSchedule's cost model", expected="it", fix="pip install xgboost")
    shapes = [s for s in (*CONVS, *VECTORS, *BATCHES) if options.only in s.key]
    if not shapes or options.trials < _GENERATION:
        parser.error(f"no row is called {options.only!r}, or --trials is less than {_GENERATION}")
    jobs = [(shape, lanes) for shape in shapes for lanes in block_sizes(shape.m)]
    logging.disable(logging.WARNING)  # MetaSchedule writes pages
    start = time.monotonic()
    rows: dict[str, Any] = {}
    for number, (shape, lanes) in enumerate(jobs):

        def progress(trials: int, seconds: float, at: tuple[Any, ...] = (number, shape, lanes)) -> None:
            part = (at[0] + min(1.0, trials / options.trials)) / len(jobs)
            passed = time.monotonic() - start
            found = f"{trials} of {options.trials}, best {1e6 * seconds:,.0f} us"
            left = f"{passed:.0f} s, about {passed * (1 - part) / part:.0f} s left"
            print(f"{at[1].key}, blocks of {at[2]}: {found}; {left}", flush=True)

        begin = time.monotonic()
        seconds, trace = search(shape, lanes, isas[0], options.trials, progress)
        row = rows.setdefault(shape.key, {"trials": 0, "minutes": 0.0, "microseconds": float("inf")})
        row["trials"] += options.trials
        row["minutes"] = round(row["minutes"] + (time.monotonic() - begin) / 60, 1)
        if 1e6 * seconds < row["microseconds"]:
            today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
            row |= {"date": today, "microseconds": round(1e6 * seconds, 1), "lanes": lanes, "trace": trace}
        write_records(isas[0], read_records(isas[0]) | {shape.key: row})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SDError as error:
        sys.exit(f"error: {error}")
