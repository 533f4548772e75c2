#include "simulate.h"

#include <optional>

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

void WriteStatistics(const Statistics& statistics, JsonWriter* json) {
  json->Key("instructions").BeginObject();
  for (int i = 0; i < isa::kNumOpcode; ++i) {
    json->Key(isa::kOpcodes[i].name).Uint(statistics.instructions[i]);
  }
  json->EndObject();
  WriteCounts(statistics.total, json);
  if (statistics.layers.empty()) return;
  json->Key("layers").BeginArray();
  for (const auto& [layer, counts] : statistics.layers) {
    json->BeginObject().Key("layer").Uint(layer);
    WriteCounts(counts, json);
    json->EndObject();
  }
  json->EndArray();
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

Mode ParseMode(const std::string& text) {
  if (text == "functional") return Mode::kFunctional;
  if (text == "timed") return Mode::kTimed;
  throw ConfigError("mode is '" + text + "'. Expected: functional or timed.");
}

std::string Simulate(const Program& program, const Config& config,
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
  if (timed) timed->Write(&json);
  json.EndObject();
  return json.str();
}

}  // namespace sd
