#include "gemm_plan.h"

#include <algorithm>
#include <string>

#include "booth.h"
#include "checked.h"
#include "error.h"

namespace sd {
namespace {

using isa::WMode;

/*! \brief The numbers of one GEMM that its mapping is made of. */
struct Shape {
  const Machine& machine;
  const isa::Gemm& gemm;
  const isa::Setw& setw;
  const WeightGeometry& geometry;
  WMode mode;
  bool code;
  uint64_t step;  // cycles of one step with the most digits

  /*! \brief Rows that the input port delivers for one that a line keeps. */
  uint64_t RowsPerKept() const {
    switch (mode) {
      case WMode::kN8:
        return 2;
      case WMode::kN4:
        return 4;
      case WMode::kN2:
        return 8;
      default:
        return 1;
    }
  }
  bool picked() const { return RowsPerKept() > 1; }

  /*! \brief Input pixels that `taps` taps of `pixels` neighbouring outputs touch. */
  uint64_t Window(uint64_t pixels, uint64_t taps) const {
    const uint64_t span = (pixels - 1) * gemm.inp_ox + (taps - 1) * setw.inp_kx + 1;
    return std::min(pixels * taps, span);
  }
  /*! \brief Sum of Window over the groups of F pixels of an output row. */
  uint64_t Windows(uint64_t taps) const {
    const uint64_t full = gemm.n_ox / machine.f_lanes;
    const uint64_t rest = gemm.n_ox % machine.f_lanes;
    return full * Window(machine.f_lanes, taps) + (rest != 0 ? Window(rest, taps) : 0);
  }
  /*! \brief Different input rows of `n` neighbouring output rows. */
  uint64_t InputRows(uint64_t n) const {
    std::vector<uint64_t> rows;
    for (uint64_t oy = 0; oy < n; ++oy) {
      for (uint64_t ky = 0; ky < setw.n_ky; ++ky) {
        rows.push_back(oy * gemm.inp_oy + ky * gemm.inp_ky);
      }
    }
    std::sort(rows.begin(), rows.end());
    return static_cast<uint64_t>(std::unique(rows.begin(), rows.end()) - rows.begin());
  }
};

uint64_t FilterPasses(const Machine& machine, const std::vector<FilterRun>& runs) {
  uint64_t passes = 0;
  for (const FilterRun& run : runs) passes += CeilDiv(run.count, machine.m_slices);
  return passes;
}

/*! \brief Filters of each channel group, in order. */
std::vector<FilterRun> SplitByGroup(const isa::Gemm& gemm, uint32_t mg) {
  std::vector<FilterRun> runs;
  for (uint32_t m = 0; m < gemm.n_m;) {
    const uint32_t left = mg - (gemm.m_base + m) % mg;
    const uint32_t count = std::min(left, gemm.n_m - m);
    runs.push_back({m, count});
    m += count;
  }
  return runs;
}

void Finish(const Shape& s, GemmPlan* plan) {
  const uint64_t mac = plan->steps * s.step;
  const auto add = [&](uint64_t groups, bool last) {
    const uint64_t body = Product({plan->passes, std::max(mac, plan->RowFloor(last))});
    const bool drains = plan->drain > body;
    const uint64_t cycles = Product({groups, drains ? plan->drain : body});
    plan->array.Add(drains ? ArrayBound::kDrain : plan->RowBound(mac, last), cycles);
    AddTo(&plan->cycles, cycles);
  };
  plan->filter_passes = FilterPasses(s.machine, plan->runs);
  plan->cycles = plan->Overhead();
  plan->array = plan->OverheadArray();
  // Ports differ only for depthwise layers, which are one run.
  add(Product({plan->pixel_groups, plan->filter_passes - 1}), false);
  add(plan->pixel_groups, true);
}

GemmPlan PlanConv(const Shape& s, uint32_t fold) {
  const Machine& m = s.machine;
  GemmPlan plan;
  plan.code = s.code;
  plan.taps = s.code && static_cast<isa::RowKind>(s.setw.rowkind) == isa::RowKind::kTaps;
  plan.fold = fold;
  plan.lines = m.c_lines / fold;
  plan.steps = s.code ? s.setw.s : 1;
  plan.rows = s.code ? s.geometry.used_slots : s.setw.cg;
  plan.passes = CeilDiv(plan.rows, plan.lines);
  if (!s.code) plan.passes *= uint64_t{s.setw.n_ky} * s.setw.n_kx;
  const uint64_t lane_bytes =
      plan.taps ? s.Window(m.f_lanes, plan.steps) : uint64_t{m.f_lanes} * plan.steps;
  plan.port = CeilDiv(m.c_lines * lane_bytes * s.RowsPerKept(), m.port_bytes);
  plan.last_port = plan.port;
  plan.rebuild = s.code ? uint64_t{plan.steps} * m.lines_per_re : 0;
  plan.fill = uint64_t{m.decode} + m.gemm_fill;
  const uint64_t x_groups = CeilDiv(s.gemm.n_ox, m.f_lanes);
  plan.pixel_groups = s.gemm.n_oy * CeilDiv(x_groups, fold);
  plan.drain = CeilDiv(std::min<uint64_t>(s.gemm.n_ox, uint64_t{fold} * m.f_lanes), m.drain_values);
  plan.runs = SplitByGroup(s.gemm, s.setw.mg);
  Finish(s, &plan);
  return plan;
}

GemmPlan PlanDepthwise(const Shape& s) {
  const Machine& m = s.machine;
  GemmPlan plan;
  plan.depthwise = true;
  plan.code = s.code;
  plan.taps = !s.code || static_cast<isa::RowKind>(s.setw.rowkind) == isa::RowKind::kTaps;
  plan.lines = m.c_lines;
  plan.steps = s.code ? s.setw.s : s.setw.n_kx;
  plan.rows = s.code ? s.geometry.used_slots : s.setw.n_ky;
  const uint32_t fit = plan.rows == 0 ? s.gemm.n_oy : m.c_lines / plan.rows;
  plan.oy_at_once = std::max<uint32_t>(1, std::min(s.gemm.n_oy, fit));
  plan.passes = CeilDiv(plan.rows, m.c_lines);
  const uint64_t pixels = std::min(m.f_lanes, s.gemm.n_ox);
  const uint64_t channel_bytes = s.InputRows(plan.oy_at_once) * s.Window(pixels, s.setw.n_kx);
  const auto port = [&](uint64_t filters) {
    return CeilDiv(CeilDiv(filters, s.setw.mg) * channel_bytes, m.port_bytes);
  };
  const uint32_t last = s.gemm.n_m % m.m_slices;
  plan.port = port(m.m_slices);
  plan.last_port = port(last == 0 ? m.m_slices : last);
  plan.rebuild = s.code ? uint64_t{plan.steps} * m.lines_per_re : 0;
  plan.fill = uint64_t{m.decode} + m.gemm_fill;
  plan.pixel_groups = CeilDiv(s.gemm.n_oy, plan.oy_at_once) * CeilDiv(s.gemm.n_ox, m.f_lanes);
  plan.drain = CeilDiv(plan.oy_at_once * pixels, m.drain_values);
  plan.runs = {{0, s.gemm.n_m}};
  Finish(s, &plan);
  return plan;
}

/*! \brief Bytes that leave INP and bytes that enter the lines' FIFOs. */
void CountInput(const Shape& s, GemmPlan* plan) {
  const uint64_t pixels = uint64_t{s.gemm.n_oy} * s.gemm.n_ox;
  uint64_t inp = 0;
  if (plan->depthwise) {
    const uint64_t full = s.gemm.n_oy / plan->oy_at_once;
    const uint64_t rest = s.gemm.n_oy % plan->oy_at_once;
    const uint64_t rows = full * s.InputRows(plan->oy_at_once) + (rest ? s.InputRows(rest) : 0);
    inp = Product({CeilDiv(s.gemm.n_m, s.setw.mg), rows, s.Windows(s.setw.n_kx)});
  } else if (!plan->code) {
    inp = Product({pixels, s.geometry.taps, plan->filter_passes});
  } else {
    // Every candidate row reaches the pickers; a shared pattern's index selector fetches kept rows
    // only.
    const uint64_t rows = s.mode == WMode::kShared ? s.geometry.kept_rows : s.geometry.rows;
    inp = plan->taps ? Product({rows, s.gemm.n_oy, s.Windows(plan->steps), plan->filter_passes})
                     : Product({rows, plan->steps, pixels, plan->filter_passes});
  }
  plan->events.Add(EnergyEvent::kInpRead, inp);
  const uint64_t taps = !plan->code && !plan->depthwise ? uint64_t{s.setw.n_ky} * s.setw.n_kx : 1;
  const uint64_t per_row = plan->taps ? Product({s.gemm.n_oy, s.Windows(plan->steps)})
                                      : Product({pixels, plan->steps, taps});
  const uint64_t fifo = Product({s.gemm.n_m, plan->rows, per_row});
  plan->events.Add(EnergyEvent::kFifo, fifo);
  if (s.picked()) plan->events.Add(EnergyEvent::kPicker, fifo);
}

/*! \brief Codes, bases and indices: read again for every group of pixels. */
void CountWeights(const Shape& s, GemmPlan* plan) {
  const uint64_t reads = Product({plan->pixel_groups, s.gemm.n_m});
  if (!plan->code) {
    plan->events.Add(EnergyEvent::kCodeRead, Product({reads, s.geometry.taps}));
    return;
  }
  const uint64_t s2 = uint64_t{s.setw.s} * s.setw.s;
  uint64_t terms = 1;
  for (const uint32_t entry : s.setw.code) {
    if ((entry & 8) != 0) terms = 2;  // some coefficient is the sum of two powers of two
  }
  const uint64_t slot_bytes = uint64_t{s.geometry.slots} * s.geometry.planes / 2;
  plan->events.Add(EnergyEvent::kCodeRead, Product({reads, slot_bytes}));
  plan->events.Add(EnergyEvent::kBasisRead, Product({reads, s.geometry.slices, s2}));
  plan->events.Add(EnergyEvent::kShiftAdd, Product({reads, plan->rows, s2, terms}));
  if (static_cast<isa::BasisKind>(s.setw.basis_kind) == isa::BasisKind::kCodebook) {
    plan->events.Add(EnergyEvent::kIdxRead, s.gemm.n_m);
  }
  if (s.mode == WMode::kShared) {
    plan->events.Add(EnergyEvent::kIdxRead, Product({plan->pixel_groups, plan->filter_passes,
                                                     s.geometry.bitmap_words, 16}));
  }
}

void CountArray(const Shape& s, GemmPlan* plan) {
  const uint64_t outputs = Product({s.gemm.n_oy, s.gemm.n_ox, s.gemm.n_m});
  const uint64_t weights = plan->code ? uint64_t{plan->rows} * plan->steps : s.geometry.taps;
  const uint64_t products = Product({outputs, weights});
  if (!s.machine.serial) {
    plan->events.Add(plan->code ? EnergyEvent::kMac8x13 : EnergyEvent::kMac8x8, products);
  }
  plan->events.Add(EnergyEvent::kPsum, products);
  plan->events.Add(EnergyEvent::kAccWrite, Product({outputs, 4}));
  switch (static_cast<isa::AccInit>(s.gemm.acc_init)) {
    case isa::AccInit::kKeep:
      plan->events.Add(EnergyEvent::kAccRead, Product({outputs, 4}));
      break;
    case isa::AccInit::kBias:
      plan->events.Add(EnergyEvent::kQpRead, Product({plan->pixel_groups, s.gemm.n_m, 4}));
      break;
    case isa::AccInit::kZero:
      break;
  }
}

}  // namespace

GemmPlan PlanGemm(const Machine& machine, const isa::Gemm& gemm, const isa::Setw& setw,
                  bool signed_activations, const WeightGeometry& geometry, const Site& site) {
  const auto mode = static_cast<WMode>(setw.wmode);
  const bool code = mode != WMode::kRaw8;
  if (code && machine.lines_per_re == 0) {
    throw ConfigMismatchError(
        site.text() +
        ": the weights are in SD form and the configuration has no rebuild engine. Expected: raw "
        "int8 weights, or lines_per_re of at least 1. What to do: compile the model for this "
        "configuration.");
  }
  const uint64_t step = machine.serial ? MaxBoothDigits(signed_activations)
                                       : CeilDiv(machine.f_lanes, machine.lanes_per_line);
  const Shape shape{machine, gemm, setw, geometry, mode, code, step};
  GemmPlan best;
  if (setw.cg == 1) {
    best = PlanDepthwise(shape);
  } else {
    best = PlanConv(shape, 1);
    for (const uint32_t fold : machine.folds) {
      GemmPlan plan = PlanConv(shape, fold);
      if (plan.cycles < best.cycles) best = std::move(plan);
    }
  }
  CountInput(shape, &best);
  CountWeights(shape, &best);
  CountArray(shape, &best);
  return best;
}

}  // namespace sd
