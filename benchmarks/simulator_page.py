"""Page of the simulator's speed."""

from __future__ import annotations

from typing import Any

BARS = {"int8": (25.0, 50.0), "4:16": (75.0, 150.0)}
TIMING_BAR = 2e6
RATIO_BAR, RATIO_AIM = 0.6, 0.8

HEAD = """# Speed of the simulator

Generated {date} by `python benchmarks/simulator.py`; do not edit.

**What is measured.** All convolutions and the dense layer of ResNet-50, batch 1: real shapes, random
weights, codes and activations (half of them zero). Each layer is a program of the code generator; the
module keeps its rebuilt weights from run to run, the first run (*cold*) rebuilds them. The stem is int8
in every variant, as in the default recipe. GMAC/s count the **dense** layers' products, zeros included,
also where the simulator leaves them out. One thread; user + system time of the process; {repeats} interleaved
repeats. *rate*: every layer's least time (timing only: the least of many short runs); *median*: the median
pass over all layers, which other work on the machine slows down.

**Machine.** {machine}.
It was shared with other work: a float32 matrix product of fixed size, run between the repeats, reached
{best:.0f} GFLOP/s at best, {median:.0f} in the median, {worst:.0f} at worst (a quiet machine: no spread).
"""

READING = """
*functional*: results and counts. *timed*: cycles, stalls, energy and the report too. On the bit-serial
array (`smartexchange-28nm`) time depends on the Booth digits of every activation, which are evaluated
exactly; the parallel arrays need no data. *timing only*: a program of the whole net without operands, the
library's parsing and JSON report included.
"""

OTHERS = """
## Beside VTA's simulators

Numbers of others, on their machine, quoted from apache/tvm pull request 4986 (ResNet-18, 1.8 G MAC):
functional simulator 1.01 s = 1.8 GMAC/s; cycle-accurate simulator (Verilator) 227.7 s = 0.008 GMAC/s.
Different network, processor, year and accelerator: orders of magnitude, no more. Ours times by formulas
checked against a stepped model, not RTL.
"""

METHOD = """
## How

- int8: pmaddwd on pairs of channels, 16 filters x 6 pixels in registers; weights are packed on the fly.
- N:16, rows of taps: filter by filter, many pixels. Sums of codes x inputs (pmaddubsw; int16 as long as no
  input can overflow it, then int32), the basis once at the end: exact, because both are linear. A zero row
  costs nothing.
- N:16, rows of three channels: pmaddwd with rebuilt weights over 64 pixels, zero rows left out.
- Everything else (16:16, few pixels, other rows, groups, weights beyond int16): rebuilt weights, 16 filters
  at a time.
- Bit-serial time: Booth digits of an input word are counted when a GEMM first reads it after a write
  (pshufb). What a line does with a row depends on the row's inputs only: the most digits of 8 pixels, channel
  by channel (pmaxub), once an input row for all filters, kernel rows and GEMMs that read it. A pass is as
  slow as the slowest row that any of its 64 filters keeps; which rows those are is an OR of their indices.
  Energy needs the digits of each row times the filters that keep it: a sum over the indices (pshufb as a
  table of the row's digits, psadbw).
- Without AVX2 (or with `SD_KERNELS=portable`) plain C++ gives the same bits.
"""


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _met(value: float, bar: float, aim: float) -> str:
    return "aim met" if value >= aim else "bar met" if value >= bar else "**below the bar**"


def _find(data: dict[str, Any], pattern: str, config: str, mode: str) -> dict[str, Any] | None:
    key = {"pattern": pattern, "config": config, "mode": mode}
    return next((v for v in data["variants"] if key.items() <= v.items()), None)


def _bars(data: dict[str, Any]) -> str:
    rows = [["what", "rate", "median", "bar", "aim", "by the rate"]]
    parallel = data["variants"][0]["config"]
    for pattern, (bar, aim) in BARS.items():
        functional = _find(data, pattern, parallel, "functional")
        if functional is None:
            continue
        rate = functional["gmac_s"]
        rows.append(
            [
                f"functional, {pattern}, GMAC/s",
                f"{rate:.1f}",
                f"{functional['gmac_s_median_pass']:.1f}",
                f"{bar:.0f}",
                f"{aim:.0f}",
                _met(rate, bar, aim),
            ]
        )
        for config in dict.fromkeys(v["config"] for v in data["variants"]):
            base, timed = (_find(data, pattern, config, m) for m in ("functional", "timed"))
            if base and timed:
                share = timed["gmac_s"] / base["gmac_s"]
                rows.append(
                    [
                        f"timed / functional, {pattern}, `{config}`",
                        f"{share:.0%}",
                        f"{base['median_pass_s'] / timed['median_pass_s']:.0%}",
                        f"{RATIO_BAR:.0%}",
                        f"{RATIO_AIM:.0%}",
                        _met(share, RATIO_BAR, RATIO_AIM),
                    ]
                )
    slowest = min(data["timing_only"].values(), key=lambda t: t["instructions_s"])
    rate, median = (slowest["instructions"] / slowest[k] for k in ("best_s", "median_s"))
    rows.append(
        [
            "timing only, M instructions/s (slowest net)",
            f"{rate / 1e6:.2f}",
            f"{median / 1e6:.2f}",
            "2",
            "",
            _met(rate, TIMING_BAR, 1e99),
        ]
    )
    return _table(rows)


def _nets(data: dict[str, Any]) -> str:
    rows = [["weights", "configuration", "mode", "rate GMAC/s", "median GMAC/s", "ms a net", "cold ms"]]
    for v in data["variants"]:
        rows.append(
            [
                v["pattern"],
                f"`{v['config']}`",
                v["mode"],
                f"{v['gmac_s']:.1f}",
                f"{v['gmac_s_median_pass']:.1f}",
                f"{1e3 * v['best_s']:.1f}",
                f"{1e3 * v['cold_s']:.0f}" if v["mode"] == "functional" else "",
            ]
        )
    return _table(rows)


def _layers(data: dict[str, Any]) -> str:
    parallel = data["variants"][0]["config"]
    columns = [v for v in data["variants"] if v["config"] == parallel and v["mode"] == "functional"]
    rows = [["layer", "times", "M MAC", *[f"{v['pattern']} GMAC/s" for v in columns]]]
    for i, layer in enumerate(columns[0]["layers"]):
        rates = [f"{v['layers'][i]['gmac_s']:.1f}" for v in columns]
        rows.append([layer["layer"], str(layer["times"]), f"{layer['macs'] / 1e6:.0f}", *rates])
    return _table(rows)


def _timing(data: dict[str, Any]) -> str:
    rows = [["weights", "instructions", "M instructions/s", "median", "ms a net"]]
    for pattern, t in data["timing_only"].items():
        rows.append(
            [
                pattern,
                str(t["instructions"]),
                f"{t['instructions_s'] / 1e6:.2f}",
                f"{t['instructions'] / t['median_s'] / 1e6:.2f}",
                f"{1e3 * t['best_s']:.2f}",
            ]
        )
    return _table(rows)


def render(data: dict[str, Any]) -> str:
    """Markdown of the JSON's content."""
    quiet = data["calibration_gflop_s"]
    head = HEAD.format(
        date=data["date"],
        repeats=data["repeats"],
        machine=", ".join(f"{k} {v}" for k, v in data["machine"].items()),
        **quiet,
    )
    return (
        head
        + "\n## Bars\n\n"
        + _bars(data)
        + "\n## Whole net\n\n"
        + _nets(data)
        + READING
        + "\n## Timing only\n\n"
        + _timing(data)
        + "\n## Layers, functional\n\n"
        + _layers(data)
        + METHOD
        + OTHERS
    )
