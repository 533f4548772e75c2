#include "simulate.h"

#include <algorithm>
#include <optional>

#include "checked.h"
#include "error.h"
#include "executor.h"
#include "json.h"
#include "timed.h"
#include "workspace.h"

namespace sd {
namespace {

void WriteCounts(const Counts& counts, JsonWriter* json) {
  json->Key("macs").Uint(counts.macs);
  json->Key("macs_dense").Uint(counts.macs_dense);
  json->Key("kept_rows").Uint(counts.kept_rows);
  json->Key("shift_adds").Uint(counts.shift_adds);
  json->Key("alu_lanes").Uint(counts.alu_lanes);
  json->Key("requants").Uint(counts.requants);
  json->Key("bytes").BeginObject();
  json->Key("dram_read").Uint(counts.dram_read);
  json->Key("dram_write").Uint(counts.dram_write);
  for (int i = 0; i < isa::kNumMem; ++i) {
    json->Key(std::string(isa::kMemories[i].key) + "_read").Uint(counts.read[i]);
    json->Key(std::string(isa::kMemories[i].key) + "_write").Uint(counts.write[i]);
  }
  json->EndObject();
}

void WriteInstructions(const InstructionCounts& instructions, JsonWriter* json) {
  json->Key("instructions").BeginObject();
  for (int i = 0; i < isa::kNumOpcode; ++i) {
    json->Key(isa::kOpcodes[i].name).Uint(instructions[i]);
  }
  json->EndObject();
}

bool IsEmpty(const LayerStatistics& layer) {
  return std::all_of(layer.instructions.begin(), layer.instructions.end(),
                     [](uint64_t n) { return n == 0; });
}

void WriteStatistics(const Statistics& statistics, JsonWriter* json) {
  WriteInstructions(statistics.instructions, json);
  WriteCounts(statistics.total, json);
  json->Key("layers").BeginArray();
  for (const LayerStatistics& layer : statistics.layers) {
    if (IsEmpty(layer)) continue;  // nothing before the first MARK
    json->BeginObject().Key("layer").Int(layer.layer);
    WriteInstructions(layer.instructions, json);
    WriteCounts(layer.counts, json);
    json->EndObject();
  }
  json->EndArray();
}

Totals TotalsOf(const Statistics& statistics) {
  Totals totals;
  totals.calls = 1;
  for (const uint64_t n : statistics.instructions) totals.instructions += n;
  totals.macs = statistics.total.macs;
  totals.macs_dense = statistics.total.macs_dense;
  totals.dram_read = statistics.total.dram_read;
  totals.dram_write = statistics.total.dram_write;
  return totals;
}

void CheckSegments(const Program& program, const std::vector<Segment>& segments) {
  if (segments.size() != program.segment_bytes.size()) {
    throw ProgramError("the call has " + std::to_string(segments.size()) + " operands. Expected: " +
                       std::to_string(program.segment_bytes.size()) + ".");
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].bytes < program.segment_bytes[i]) {
      throw ProgramError("operand " + std::to_string(i) + " has " +
                         std::to_string(segments[i].bytes) + " bytes. Expected: at least " +
                         std::to_string(program.segment_bytes[i]) + ".");
    }
  }
}

}  // namespace

void Totals::Add(const Totals& other) {
  calls += other.calls;
  timed_calls += other.timed_calls;
  AddTo(&instructions, other.instructions);
  AddTo(&macs, other.macs);
  AddTo(&macs_dense, other.macs_dense);
  AddTo(&dram_read, other.dram_read);
  AddTo(&dram_write, other.dram_write);
  AddTo(&cycles, other.cycles);
  for (int i = 0; i < kNumComponent; ++i) AddTo(&energy.fj[i], other.energy.fj[i]);
  AddTo(&energy.total, other.energy.total);
}

std::string Totals::ToJson() const {
  JsonWriter json;
  json.BeginObject().Key("calls").Uint(calls).Key("instructions").Uint(instructions);
  json.Key("macs").Uint(macs).Key("macs_dense").Uint(macs_dense);
  json.Key("dram_read").Uint(dram_read).Key("dram_write").Uint(dram_write);
  if (calls != 0 && timed_calls == calls) {
    json.Key("cycles").Uint(cycles);
    WriteEnergy(energy, &json);
  }
  json.EndObject();
  return json.str();
}

Mode ParseMode(const std::string& text) {
  if (text == "functional") return Mode::kFunctional;
  if (text == "timed") return Mode::kTimed;
  throw ConfigError("mode is '" + text + "'. Expected: functional or timed.");
}

RunResult Simulate(const Program& program, const Config& config,
                   const std::vector<Segment>& segments, Mode mode, Workspace* workspace) {
  program.CheckFits(config);
  CheckSegments(program, segments);
  std::optional<TimedRun> timed;
  if (mode == Mode::kTimed) timed.emplace(config, program);
  std::optional<Workspace> own;
  if (workspace == nullptr) workspace = &own.emplace();
  const Statistics statistics =
      Execute(program, segments, workspace, timed ? timed->observer() : nullptr);
  JsonWriter json;
  json.BeginObject().Key("mode").String(mode == Mode::kTimed ? "timed" : "functional");
  WriteStatistics(statistics, &json);
  RunResult result;
  result.totals = TotalsOf(statistics);
  if (timed) {
    const TimedTotals totals = timed->Write(&json);
    result.totals.timed_calls = 1;
    result.totals.cycles = totals.cycles;
    result.totals.energy = totals.energy;
  }
  json.EndObject();
  result.json = json.str();
  return result;
}

}  // namespace sd
