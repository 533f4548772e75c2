#include "timed.h"

#include <algorithm>
#include <string>

#include "serial_gemm.h"

namespace sd {

/*! \brief Evaluates each GEMM on a serial array while its operands are on chip. */
class TimedRun::Collector : public Observer {
 public:
  Collector(const Machine& machine, std::vector<std::optional<GemmData>>* data)
      : machine_(machine), array_(machine), data_(*data) {}

  // After, because then the instruction has been checked; a GEMM does not change its operands.
  void After(const Event& event, const Memories& memories) override {
    const Instruction& instruction = *event.instruction;
    if (instruction.opcode == isa::Opcode::kSetw) signed_ = (instruction.flags & 1) != 0;
    const auto* gemm = std::get_if<isa::Gemm>(&instruction.body);
    if (gemm == nullptr || event.setw == nullptr) return;
    const GemmPlan plan = PlanGemm(machine_, *gemm, *event.setw, signed_, *event.geometry,
                                   {event.index, instruction.opcode});
    data_[event.index] =
        array_.Evaluate(plan, *gemm, *event.setw, signed_, *event.geometry, memories);
  }

 private:
  const Machine& machine_;
  SerialArray array_;
  std::vector<std::optional<GemmData>>& data_;
  bool signed_ = false;
};

namespace {

void WriteQueues(JsonWriter* json, const TimeShare& share) {
  json->Key("busy").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    json->Key(isa::kQueueNames[q]).Uint(share.queues[q].busy);
  }
  json->EndObject().Key("stall").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    const std::string name = isa::kQueueNames[q];
    json->Key(name + ".token").Uint(share.queues[q].token);
    json->Key(name + ".dispatch").Uint(share.queues[q].dispatch);
  }
  json->EndObject().Key("waits").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    for (int from = 0; from < isa::kNumQueue; ++from) {
      const std::string name = isa::kQueueNames[q];
      json->Key(name + "." + isa::kQueueNames[from]).Uint(share.waits[q][from]);
    }
  }
  json->EndObject();
}

void WriteClasses(JsonWriter* json, const TimeShare& share, const EnergyPrices& prices) {
  json->Key("class_cycles").BeginObject();
  for (int i = 0; i < isa::kNumOpcode; ++i) {
    json->Key(isa::kOpcodes[i].name).Uint(share.class_cycles[i]);
  }
  json->EndObject().Key("class_energy_fj").BeginObject();
  for (int i = 0; i < isa::kNumOpcode; ++i) {
    json->Key(isa::kOpcodes[i].name).Uint(prices.Price(share.class_events[i]).total);
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

/*! \brief What a program and a layer have in common; returns the energy. */
EnergyBreakdown WriteShare(JsonWriter* json, const TimeShare& share, const EnergyPrices& prices) {
  json->Key("cycles").Uint(share.cycles);
  WriteQueues(json, share);
  json->Key("dram_busy").BeginObject();
  json->Key("read").Uint(share.dram_read_busy).Key("write").Uint(share.dram_write_busy);
  json->EndObject();
  json->Key("array_cycles").BeginObject();
  for (int i = 0; i < kNumArrayBound; ++i) {
    const auto bound = static_cast<ArrayBound>(i);
    json->Key(ArrayBoundName(bound)).Uint(share.array[bound]);
  }
  json->EndObject();
  WriteClasses(json, share, prices);
  WriteEvents(json, share.events);
  const EnergyBreakdown energy = prices.Price(share.events);
  WriteEnergy(energy, json);
  return energy;
}

bool IsEmpty(const LayerTime& layer) {
  return std::all_of(layer.class_count.begin(), layer.class_count.end(),
                     [](uint64_t n) { return n == 0; });
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
  const TimedTotals totals{timing.cycles, WriteShare(json, timing, prices_)};
  json->Key("idle").BeginObject();
  for (int q = 0; q < isa::kNumQueue; ++q) {
    json->Key(isa::kQueueNames[q]).Uint(timing.queues[q].idle);
  }
  json->EndObject().Key("layer_times").BeginArray();
  for (const LayerTime& layer : timing.layers) {
    if (IsEmpty(layer)) continue;  // nothing before the first MARK
    json->BeginObject().Key("layer").Int(layer.layer);
    WriteShare(json, layer, prices_);
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
