"""Random programs that cannot deadlock: every wait has its signal earlier in program order."""

from __future__ import annotations

import random
from dataclasses import replace

from timing import costs
from timing.asm import Op, alu, gemm, load, op, setw, store
from timing.stepped import QUEUES, Task

from sd_tvm.accelerator.isa.spec import Mem, Queue, WMode, Xform

QUEUE_OF = {"LOAD": "LD", "STORE": "ST", "GEMM": "GE", "SETW": "GE", "ALU": "AL"}
FORM = setw(WMode.N4, cg=48)


def _form(rng: random.Random) -> Op:
    """Any weight form: conv, grouped or depthwise."""
    mode = rng.choice(list(WMode))
    ky, kx = rng.choice([(1, 1), (1, 1), (3, 3), (2, 5)])
    cg = rng.choice([1, 3, 16, 48, rng.randint(2, 40)])
    taps = mode != WMode.RAW8 and kx > 1
    rows = cg * ky if taps else -(-cg // 3) * ky * kx
    return setw(
        mode,
        cg=cg,
        mg=1 if cg == 1 else rng.choice([7, 16, 4096]),
        ky=ky,
        kx=kx,
        s=kx if taps else 3,
        taps=taps,
        kept_rows=rng.randint(1, rows) if mode == WMode.SHARED else 0,
        group_tiles=1,
        code3=rng.choice([0x10, 0x18]),
    )


def _instruction(rng: random.Random) -> Op:
    match rng.randrange(8):
        case 0 | 1:
            y = rng.randint(1, 3)
            x = rng.randint(1, 8)
            kind = rng.choice([Xform.COPY] * 3 + [Xform.EXPAND4, Xform.SPREAD9])
            return load(
                x,
                y,
                stride=x + rng.choice([0, 3]),
                address=rng.randrange(8),
                pad_r=0 if kind == Xform.SPREAD9 else rng.choice([0, 0, 2]),
                mem=Mem.QP if kind == Xform.SPREAD9 else Mem.INP,
                xform=kind,
                flags=2 * rng.randrange(4) if kind == Xform.EXPAND4 else 0,
            )
        case 2:
            return store(rng.randint(1, 6), rng.randint(1, 2), stride=9, mem=rng.choice([Mem.OUT, Mem.ACC]))
        case 3 | 4:
            return gemm(rng.randint(1, 20), rng.randint(1, 9), rng.randint(1, 2))
        case 5:
            return _form(rng)
        case 6:
            return alu(rng.randint(1, 30), rng.choice(["REQ", "ADD"]))
    return op("NOP", queue=rng.randrange(4))


def queue_of(o: Op) -> str | None:
    if o.name == "NOP":
        return QUEUES[Queue(o.fields["queue"])]
    return QUEUE_OF.get(o.name)


def generate(rng: random.Random, length: int) -> list[Op]:
    """A program of about ``length`` instructions, FENCEs and MARKs among them."""
    ops = [FORM]
    pairs = [(p, c) for p in QUEUES for c in QUEUES if p != c]
    channel = dict(zip(rng.sample(range(32), len(pairs)), pairs, strict=True))
    available = dict.fromkeys(channel, 0)
    for _ in range(length):
        if rng.random() < 0.06:
            ops.append(op("FENCE") if rng.random() < 0.4 else op("MARK", layer=rng.randrange(4)))
            continue
        o = _instruction(rng)
        queue = queue_of(o)
        waits: list[int] = []
        for s, (_, consumer) in channel.items():
            if consumer == queue and available[s] and len(waits) < 2 and rng.random() < 0.7:
                for _ in range(rng.randint(1, min(2 - len(waits), available[s]))):
                    waits.append(s)
                    available[s] -= 1
        signals = [s for s, (producer, _) in channel.items() if producer == queue and rng.random() < 0.35][:2]
        for s in signals:
            available[s] += 1
        ops.append(replace(o, waits=tuple(waits), signals=tuple(signals)))
    return ops


def tasks(m: costs.Machine, ops: list[Op]) -> list[Task]:
    """Phases of each instruction, from the enumerating cost reference."""
    out = []
    form = FORM
    for o in ops:
        phases: dict[str, int] = {}
        if o.name == "SETW":
            form = o
        match o.name:
            case "LOAD":
                phases = costs.load(m, o)
            case "STORE":
                phases = costs.store(m, o)
            case "ALU":
                phases = costs.alu(m, o)
            case "GEMM":
                phases = {"front": costs.gemm(m, o.fields, form.fields).cycles}
            case "SETW":
                phases = {"front": m["decode_cycles"] + 1}
            case "NOP":
                phases = {"front": 1}
        out.append(
            Task(queue_of(o), waits=o.waits, signals=o.signals, fence=o.name in ("FENCE", "FINISH"), **phases)
        )
    return out
