"""Partition: layers of a decomposed float32 graph become integer layers.

Every integer layer is ``call_tir`` of a PrimFunc that is named after the layer and whose attribute
``sd.layer`` is the layer's record. Values between integer layers are 8-bit, blocked by 16 channels;
conversions stand only where the graph changes between float32 and integers. What a pass before recorded
decides: weights (``sd.weight``, from Decompose) and ranges (``sd.calibration``, from Calibrate).
"""

from __future__ import annotations

import logging
from typing import Any

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes._emit import Emitter
from sd_tvm.relay_passes._match import INTEGER, Group, Matcher
from sd_tvm.relay_passes._matmul import with_symmetric_operands
from sd_tvm.relay_passes._modes import choose_modes
from sd_tvm.relay_passes._rewrite import Expr, IRModule, _vars_in, bindings_of, is_call, source_names
from sd_tvm.relay_passes._weights import read_weight, relax_functions
from sd_tvm.relay_passes.calibrate import activation_qparams
from sd_tvm.relay_passes.decompose import decisions
from sd_tvm.relay_passes.report import NodeReport, Target, with_reports
from sd_tvm.schedules.ops import LAYER_ATTR
from sd_tvm.weights.tensor import Weight

_LOG = logging.getLogger(__name__)
_MOVES = ("relax.reshape", "relax.permute_dims")


def is_partitioned(mod: IRModule) -> bool:
    """Whether a module has integer layers."""
    return any(LAYER_ATTR in (f.attrs or {}) for _, f in mod.functions_items())


@tvm.transform.module_pass(opt_level=0, name="sd.Partition")
class Partition:
    """Make integer layers of a decomposed graph; usable in any ``tvm.transform.Sequential``.

    Layers without calibration take their activation scale at run time (a warning says how many);
    operators that :data:`~sd_tvm.relay_passes.legality.OPERATORS` does not admit stay float32. Rows of
    :func:`~sd_tvm.relay_passes.report.node_reports` say what became of every call, and why.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        mod = relax.transform.Normalize()(mod)
        rows: list[NodeReport] = []
        for name, _ in list(relax_functions(mod)):
            mod = _Partitioner(mod, name).run(rows)
        mod = relax.transform.DeadCodeElimination()(relax.transform.Normalize()(mod))
        dynamic = sorted({row.layer for row in rows if row.layer and "run time" in row.reason})
        if dynamic:
            _LOG.warning(
                "%d layers have no calibrated input; their activation scale is computed at run time: %s",
                len(dynamic),
                ", ".join(dynamic[:5]) + (", ..." if len(dynamic) > 5 else ""),
            )
        return with_reports(mod, rows)


class _Partitioner:
    """One function."""

    def __init__(self, mod: IRModule, name: str) -> None:
        self.mod = mod
        self.name = name
        self.func = mod[name]
        self.values: dict[Expr, Expr] = dict(bindings_of(self.func))
        self.weights = self._weights()
        self.uses: dict[Expr, int] = {}
        for value in (*self.values.values(), self.func.body.body):
            for var in _vars_in(value):
                self.uses[var] = self.uses.get(var, 0) + 1
        self.names = source_names(mod)
        self.decisions = {d.name: d for d in decisions(mod)}
        # Calibrate measures main; another function may use the same names for other values
        calibrated = activation_qparams(mod) if name == "main" else {}
        self.qparams = with_symmetric_operands(self.values.items(), self.weights, calibrated)

    def _weights(self) -> dict[Expr, tuple[str, Weight]]:
        """Rebuilt weights, also behind what dense and 1-D layers do to their shape."""
        found: dict[Expr, tuple[str, Weight]] = {}
        for var, value in self.values.items():
            weight = read_weight(self.mod, value)
            if weight is None and is_call(value, *_MOVES):
                weight = found.get(value.args[0])
            if weight is not None:
                found[var] = weight
        return found

    def run(self, rows: list[NodeReport]) -> IRModule:
        """The module with the function rewritten; rows are appended."""
        emitter = Emitter(self.mod, self.qparams, self.weights)
        blocks = []
        for block in self.func.body.blocks:
            emitter.begin(is_dataflow=isinstance(block, relax.DataflowBlock))
            plain = [(b.var, getattr(b, "value", None)) for b in block.bindings]
            others = {b.var: b for b in block.bindings if not isinstance(b, relax.VarBinding)}
            groups = Matcher(plain, self.uses, self.weights, self.values).groups()
            choose_modes(groups, set(self.qparams))
            for group in groups:
                if group.tail in others:
                    emitter.keep_binding(others[group.tail])
                    continue
                layer, note = emitter.emit(group, self._layer_name(group))
                rows.extend(self._rows(group, layer, note))
            blocks.append(emitter.end([b.var for b in block.bindings]))
        body = relax.SeqExpr(blocks, self.func.body.body)
        func = self.func
        new = relax.Function(list(func.params), body, func.ret_ty, bool(func.is_pure), func.attrs, func.span)
        return emitter.finish(self.name, new)

    def _layer_name(self, group: Group) -> str:
        if group.weight is not None:
            return group.weight[0]
        var = group.members[0][0]
        return self.names.get(var.name, str(var.name))

    def _rows(self, group: Group, layer: str, note: str) -> list[NodeReport]:
        rows = []
        for i, (var, value) in enumerate(group.members):
            if not isinstance(value, relax.Call) or group.mode == "keep":
                continue
            name = str(var.name)
            op = str(getattr(value.op, "name", None) or getattr(value.op, "name_hint", value.op))
            integer = group.mode in INTEGER and (group.mode == "q8" or i < group.n_linear)
            target: Target = "integer" if integer else "cpu"
            if integer:
                reason = self._reason(group, note) if i == 0 else f"fused into {layer}"
            elif group.mode == "move":
                rows.append(NodeReport(name, self.names.get(name, name), op, "cpu-integer", group.reason))
                continue
            elif group.mode == "view":
                reason = "no code: the blocked layout does not change"
                target = "integer" if layer else "cpu-integer"
            elif group.mode == "cpu":
                reason = self._cpu_reason(group)
            else:
                reason = f"follows {layer}, whose sums the host scales"
            rows.append(
                NodeReport(
                    node=name,
                    source_name=self.names.get(name, name),
                    op=op,
                    target=target,
                    reason=reason,
                    layer=layer if integer or group.mode == "view" else "",
                )
            )
        return rows

    def _reason(self, group: Group, note: str) -> str:
        parts = [group.reason, note]
        decision = self.decisions.get(group.weight[0]) if group.weight else None
        if decision is not None and decision.kind == "int8":
            parts.append(f"int8 weights: {decision.reason}")
        return "; ".join(p for p in parts if p)

    def _cpu_reason(self, group: Group) -> str:
        decision = self.decisions.get(self._layer_name(group)) if group.role in ("conv", "dense") else None
        if decision is not None and decision.kind == "skip":
            return f"weight stays float32: {decision.reason}"
        return group.reason
