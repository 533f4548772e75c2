"""The bars, and whether SD form is ahead of each peer: sentences made of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .measure import NETWORKS, SEVEN, TEN, Row


@dataclass(frozen=True)
class Bar:
    """What a row has to reach; each value is the mean of the repeats. A loss counts, a gain does not."""

    network: str
    variant: str
    text: str
    met: Callable[[Row], bool]
    found: Callable[[Row], str]


def _images(
    size: float, drop: float, agree: float, ratio: str = "ratio"
) -> tuple[Callable[[Row], bool], Callable[[Row], str]]:
    return (
        lambda r: r[ratio] >= size and r["drop"] <= drop and r["agree"] >= agree,
        lambda r: f"{r[ratio]:.2f}x, drop {r['drop']:.1f}, agreement {r['agree']:.1f} %",
    )


def _texts(size: float, loss: float) -> tuple[Callable[[Row], bool], Callable[[Row], str]]:
    return (
        lambda r: r["weight_ratio"] >= size and max(r["spearman_loss"], r["pearson_loss"]) <= loss,
        lambda r: ", ".join(
            [
                f"{r['weight_ratio']:.2f}x",
                *(f"{key.capitalize()} {-r[f'{key}_loss']:+.3f}" for key in ("spearman", "pearson")),
            ]
        ),
    )


IMAGES, TEXTS = "EfficientNet-Lite0", "MiniLM-L6"
_SEVEN = "file 7.1x, drop at most 1.5 points, agreement at least 95 %"
_TEN = "file 10.56x, drop at most 6 points, agreement at least 87 %"
BARS = (
    Bar(IMAGES, SEVEN, _SEVEN, *_images(7.1, 1.5, 95)),
    Bar(IMAGES, TEN, _TEN, *_images(10.56, 6, 87, "ratio_entropy")),
    Bar(IMAGES, "SD, budget 10.56x", _TEN, *_images(10.56, 6, 87)),
    Bar(TEXTS, "SD, 7x", "linear layers 7x, no correlation more than .01 below float32", *_texts(7, 0.01)),
    Bar(
        TEXTS,
        "SD, 10.56x",
        "linear layers 10.56x, no correlation more than .03 below float32",
        *_texts(10.56, 0.03),
    ),
)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """One line a bar, one a peer."""
    lines = []
    for bar in BARS:
        mean = _mean(rows, bar.network, bar.variant)
        if mean is None:
            continue
        state = "met" if bar.met(mean) else "**missed**"
        lines.append(f"- {bar.network}, {bar.variant}; {bar.text}: {state} ({bar.found(mean)}).")
    for network, variants in NETWORKS.items():
        for variant in variants:
            if variant.like and variant.forms:
                lines += _against(rows, network, variant.name, variant.like)
    return lines


def _against(rows: Sequence[Row], network: str, peer: str, sd: str) -> list[str]:
    """SD form against a peer on the repeats that both have."""
    pairs = [
        (a, b)
        for a in rows
        for b in rows
        if a["network"] == b["network"] == network
        and (a["variant"], b["variant"]) == (sd, peer)
        and a["seed"] == b["seed"]
    ]
    if not pairs:
        return []
    what = "agreement" if network == "EfficientNet-Lite0" else "mean of both correlations"
    gains = [_score(a) - _score(b) for a, b in pairs]
    gain = sum(gains) / len(gains)
    unit = "points" if network == "EfficientNet-Lite0" else ""
    state = "ahead of" if gain > 0 else "**not ahead** of" if gain < 0 else "**equal** to"
    each = "" if len(gains) == 1 else f" (repeats {', '.join(f'{g:+.3g}' for g in gains)})"
    sizes = f"{pairs[0][0]['weight_bytes']:,} against {pairs[0][1]['weight_bytes']:,} bytes of weights"
    amount = f"{abs(gain):.2g} {unit}".strip()
    return [f"- {network}, {sd}: SD form is {state} {peer} by {amount} of {what}{each}; {sizes}."]


def _score(row: Row) -> float:
    if "samples" in row:
        return float(row["samples"]["agree"])
    return float((row["spearman"] + row["pearson"]) / 2)


def _mean(rows: Sequence[Row], network: str, variant: str) -> Row | None:
    """What bars are about, as means over the repeats."""
    found = [r for r in rows if r["network"] == network and r["variant"] == variant]
    if not found:
        return None
    values: dict[str, Callable[[Row], float]] = {
        "ratio": lambda r: r["ratio"],
        "ratio_entropy": lambda r: r["ratio_entropy"],
        "weight_ratio": lambda r: r["weight_ratio"],
    }
    if "samples" in found[0]:
        values["drop"] = lambda r: r["samples"]["top1_float"] - r["samples"]["top1"]
        values["agree"] = lambda r: r["samples"]["agree"]
    else:
        values["spearman_loss"] = lambda r: r["spearman_float"] - r["spearman"]
        values["pearson_loss"] = lambda r: r["pearson_float"] - r["pearson"]
    return {key: sum(map(value, found)) / len(found) for key, value in values.items()}
