#include "timed.h"

#include <algorithm>
#include <string>

#include "booth.h"

namespace sd {

/*! \brief Evaluates each GEMM on a serial array while its operands are on chip. */
class TimedRun::Collector : public Observer {
 public:
  Collector(const Machine& machine, std::vector<std::optional<GemmData>>* data)
      : machine_(machine), data_(*data) {}

  // After, because then the instruction has been checked; a GEMM does not change its operands.
  void After(const Event& event, const Memories& memories) override {
    const Instruction& instruction = *event.instruction;
    if (instruction.opcode == isa::Opcode::kSetw) signed_ = (instruction.flags & 1) != 0;
    const auto* gemm = std::get_if<isa::Gemm>(&instruction.body);
    if (gemm == nullptr || event.setw == nullptr) return;
    const GemmPlan plan = PlanGemm(machine_, *gemm, *event.setw, signed_, *event.geometry,
                                   Where(event.index, instruction).c_str());
    data_[event.index] =
        SerialGemm(machine_, plan, *gemm, *event.setw, signed_, *event.geometry, memories);
  }

 private:
  const Machine& machine_;
  std::vector<std::optional<GemmData>>& data_;
  bool signed_ = false;
};

namespace {

void WriteQueues(JsonWriter* json, const Timing& timing) {
  json->Key("busy").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    json->Key(isa::kQueueNames[q]).Uint(timing.queues[q].busy);
  }
  json->EndObject().Key("stall").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    const std::string name = isa::kQueueNames[q];
    json->Key(name + ".token").Uint(timing.queues[q].token);
    json->Key(name + ".dispatch").Uint(timing.queues[q].dispatch);
  }
  json->EndObject().Key("idle").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    json->Key(isa::kQueueNames[q]).Uint(timing.queues[q].idle);
  }
  json->EndObject();
}

void WriteEvents(JsonWriter* json, const EventCounts& events) {
  json->Key("events").BeginObject();
  for (int i = 0; i < kNumEnergyEvent; ++i) {
    const auto event = static_cast<EnergyEvent>(i);
    json->Key(EventName(event)).Uint(events[event]);
  }
  json->EndObject();
}

}  // namespace

TimedRun::TimedRun(const Config& config, const Program& program)
    : machine_(Machine::From(config)), prices_(EnergyPrices::From(config)), program_(program) {
  if (!machine_.serial) return;
  data_.resize(program.instructions.size());
  collector_ = std::make_unique<Collector>(machine_, &data_);
}

TimedRun::~TimedRun() = default;

Observer* TimedRun::observer() { return collector_.get(); }

TimedTotals TimedRun::Write(JsonWriter* json, bool trace) const {
  const Timing timing = TimeProgram(machine_, program_, data_);
  json->Key("cycles").Uint(timing.cycles);
  WriteQueues(json, timing);
  json->Key("dram_busy").BeginObject();
  json->Key("read").Uint(timing.dram_read_busy).Key("write").Uint(timing.dram_write_busy);
  json->EndObject();
  json->Key("class_cycles").BeginObject();
  for (int i = 0; i < isa::kNumOpcode; ++i) {
    json->Key(isa::kOpcodes[i].name).Uint(timing.class_cycles[i]);
  }
  json->EndObject();
  WriteEvents(json, timing.events);
  const TimedTotals totals{timing.cycles, prices_.Price(timing.events)};
  WriteEnergy(totals.energy, json);
  json->Key("layer_times").BeginArray();
  for (const LayerTime& layer : timing.layers) {
    if (layer.layer < 0 && timing.layers.size() > 1 && layer.cycles == 0 &&
        prices_.Price(layer.events).total == 0) {
      continue;
    }
    json->BeginObject().Key("layer").Int(layer.layer).Key("cycles").Uint(layer.cycles);
    json->Key("busy").BeginObject();
    for (int q = 0; q < isa::kNumQueue; ++q) {
      json->Key(isa::kQueueNames[q]).Uint(layer.busy[q]);
    }
    json->EndObject();
    WriteEvents(json, layer.events);
    WriteEnergy(prices_.Price(layer.events), json);
    json->EndObject();
  }
  json->EndArray();
  if (!trace) return totals;
  json->Key("trace").BeginArray();
  for (const Span& span : timing.spans) {
    json->BeginArray().Uint(span.issue).Uint(span.end).EndArray();
  }
  json->EndArray();
  return totals;
}

}  // namespace sd
