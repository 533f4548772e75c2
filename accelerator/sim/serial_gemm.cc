#include "serial_gemm.h"

#include <algorithm>

#include "checked.h"
#include "kernels.h"

namespace sd {
namespace {

using isa::WMode;

constexpr uint64_t kInpAddresses = 1U << 16;

/*! \brief Cycles of the row passes of one group, by what binds them. */
struct GroupCycles {
  uint64_t mac = 0;           // of passes that products bind
  uint64_t short_passes = 0;  // that take the floor

  void AddTo(const GemmPlan& plan, bool last, uint64_t groups, GemmData* data) const {
    const uint64_t floor = Product({short_passes, plan.RowFloor(last)});
    uint64_t cycles = mac;
    sd::AddTo(&cycles, floor);
    if (plan.drain > cycles) {
      data->array.Add(ArrayBound::kDrain, Product({plan.drain, groups}));
    } else {
      data->array.Add(ArrayBound::kMac, Product({mac, groups}));
      if (short_passes != 0) data->array.Add(plan.RowBound(0, last), Product({floor, groups}));
    }
    sd::AddTo(&data->body, Product({std::max(cycles, plan.drain), groups}));
  }
};

StepShape ShapeOf(const GemmPlan& plan, const isa::Gemm& gemm, const isa::Setw& setw) {
  using Kind = StepShape::Kind;
  StepShape shape;
  const bool raw = !plan.code && !plan.depthwise;
  shape.kind = raw              ? Kind::kPasses
               : plan.taps      ? Kind::kTaps
               : plan.depthwise ? Kind::kAlone
                                : Kind::kChunks;
  shape.steps = plan.steps;
  shape.fold = plan.fold;
  shape.n_oy = gemm.n_oy;
  shape.n_ox = gemm.n_ox;
  shape.inp_oy = gemm.inp_oy;
  shape.inp_ox = gemm.inp_ox;
  if (raw) shape.chunk = plan.lines;
  if (shape.kind == Kind::kChunks) shape.chunk = setw.s;
  if (shape.kind == Kind::kTaps) {
    shape.taps = setw.n_kx;
    shape.tap_stride = setw.inp_kx;
  }
  for (uint32_t ky = 0; ky < setw.n_ky; ++ky) {
    const uint64_t row = uint64_t{ky} * gemm.inp_ky;
    if (shape.kind == Kind::kTaps) {
      shape.plane_words.push_back(row);
      continue;
    }
    for (uint32_t kx = 0; kx < setw.n_kx; ++kx) {
      shape.plane_words.push_back(row + uint64_t{kx} * setw.inp_kx);
    }
  }
  shape.floor = raw ? plan.RowFloor(false) : 0;  // equal for all filters
  return shape;
}

/*! \brief Channels that filters [first, first + count) read. */
void SetChannels(const isa::Gemm& gemm, const isa::Setw& setw, const FilterRun& run,
                 StepShape* shape) {
  const uint64_t first_group = (gemm.m_base + uint64_t{run.first}) / setw.mg;
  const uint64_t last_group = (gemm.m_base + uint64_t{run.first} + run.count - 1) / setw.mg;
  const uint64_t first = first_group * setw.cg;
  shape->channels = static_cast<uint32_t>((last_group + 1 - first_group) * setw.cg);
  shape->first_lane = first % 16;
  shape->block_words.clear();
  for (uint64_t c = first / 16; c <= (first + shape->channels - 1) / 16; ++c) {
    shape->block_words.push_back((gemm.inp + c * gemm.inp_cb) % kInpAddresses);
  }
}

}  // namespace

GemmData SerialArray::Evaluate(const GemmPlan& plan, const isa::Gemm& gemm, const isa::Setw& setw,
                               bool is_signed, const WeightGeometry& geometry,
                               const Memories& memories) {
  GemmData data;
  StepShape shape = ShapeOf(plan, gemm, setw);
  shape.is_signed = is_signed;
  shape.inp_version = memories.inp_version();
  const PickedGemm picked{plan, gemm, setw, geometry, memories, machine_.m_slices};
  for (const FilterRun& run : plan.runs) {
    SetChannels(gemm, setw, run, &shape);
    table_.Make(shape, memories);
    if (shape.kind == StepShape::Kind::kPasses) {
      AddTo(&data.digits, Product({table_.digits(), run.count}));
      AddPasses(plan, gemm, run.count, &data);
    } else {
      AddRows(plan, gemm, picks_.List(picked, run, table_, &data.digits), &data);
    }
  }
  return data;
}

/*! \brief Raw weights: filters keep all rows. */
void SerialArray::AddPasses(const GemmPlan& plan, const isa::Gemm& gemm, uint32_t filters,
                            GemmData* data) {
  const uint64_t groups = CeilDiv(filters, machine_.m_slices);
  for (uint32_t oy = 0; oy < gemm.n_oy; ++oy) {
    for (uint32_t group = 0; group < table_.groups(); ++group) {
      const PassCycles passes = table_.Passes(oy, group);
      GroupCycles{passes.long_cycles, passes.short_passes}.AddTo(plan, false, groups, data);
    }
  }
}

void SerialArray::AddRows(const GemmPlan& plan, const isa::Gemm& gemm,
                          const std::vector<RowUse>& uses, GemmData* data) {
  for (uint32_t oy = 0; oy < gemm.n_oy; oy += plan.oy_at_once) {
    const uint32_t output_rows = std::min(plan.oy_at_once, gemm.n_oy - oy);
    for (uint32_t group = 0; group < table_.groups(); ++group) {
      const uint8_t* const* lines = table_.Lines(oy, output_rows, group);
      for (const RowUse& use : uses) {
        const uint64_t floor = plan.RowFloor(use.last);
        GroupCycles cycles;
        for (size_t pass = 0; pass < use.rows->pass_ends.size(); ++pass) {
          const uint64_t longest = PassOf(*use.rows, pass, lines, output_rows);
          if (longest >= floor) {
            cycles.mac += longest;
          } else {
            ++cycles.short_passes;
          }
        }
        cycles.AddTo(plan, use.last, use.groups, data);
      }
    }
  }
}

/*! \brief Cycles of a row pass: of its slowest line, or of the slowest lines of each step. */
uint64_t SerialArray::PassOf(const RowSet& rows, size_t pass, const uint8_t* const* lines,
                             uint32_t output_rows) const {
  const uint32_t first = pass == 0 ? 0 : rows.pass_ends[pass - 1];
  const ByteRun* runs = rows.runs.data() + first;
  const size_t n = rows.pass_ends[pass] - first;
  uint64_t cycles = 0;
  for (uint32_t table = 0; table < table_.tables(); ++table) {
    uint32_t most = 0;
    for (uint32_t y = 0; y < output_rows; ++y) {
      most = std::max(most, Kernels().largest(lines + size_t{y} * table_.planes(),
                                              table * table_.step_bytes(), runs, n));
    }
    cycles += most;
  }
  return cycles;
}

}  // namespace sd
