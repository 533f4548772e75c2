// Runs arbitrary bytes as a program: an error of ours or a result, never undefined behaviour; and
// what must hold of a program that runs: time changes no result, and sums are exact.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "../sim/error.h"
#include "../sim/executor.h"
#include "../sim/json.h"
#include "../sim/timed.h"
#include "../sim/workspace.h"
#include "input.h"
#include "mutate.h"
#include "work.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using sd::fuzz::Bytes;
using sd::fuzz::Input;

constexpr uint64_t kMaxSegmentBytes = 1 << 16;
constexpr uint64_t kMaxOperandBytes = 1 << 18;
constexpr uint64_t kMaxInstructions = 400;
constexpr uint8_t kZeroOperands = 1;  // bits of Input::options
constexpr uint8_t kTrace = 2;

/*! \brief How far the inputs came, printed at the end. */
struct Reached {
  size_t runs = 0, decoded = 0, executed = 0, instructions = 0, timed = 0, serial = 0;
  ~Reached() {
    std::fprintf(
        stderr,
        "reached: runs=%zu decoded=%zu executed=%zu instructions=%zu timed=%zu serial=%zu\n", runs,
        decoded, executed, instructions, timed, serial);
  }
};
Reached reached;

void Check(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "property violated: %s\n", what);
  std::abort();
}

/*! \brief Ends a run whose next instruction would take long; hands events on. */
class Budget : public sd::Observer {
 public:
  Budget(const sd::Program& program, sd::Observer* next, const sd::Machine* machine)
      : program_(program), next_(next), machine_(machine) {}

  void Before(const sd::Event& event, const sd::Memories& memories) override {
    const uint64_t work = sd::fuzz::Work(program_, *event.instruction, event.setw, machine_);
    if (work > sd::fuzz::kMaxWork || (sum_ += work) > sd::fuzz::kMaxProgramWork) {
      throw sd::ProgramError("too much work");
    }
    if (next_ != nullptr) next_->Before(event, memories);
  }
  void After(const sd::Event& event, const sd::Memories& memories) override {
    ++reached.instructions;
    if (next_ != nullptr) next_->After(event, memories);
  }

 private:
  const sd::Program& program_;
  sd::Observer* next_;
  const sd::Machine* machine_;
  uint64_t sum_ = 0;
};

std::vector<Bytes> Operands(const sd::Program& program, const Input& input) {
  std::vector<Bytes> out;
  size_t at = 0;
  uint32_t state = 2463534242U;
  for (const uint64_t n : program.segment_bytes) {
    Bytes bytes(n);
    for (uint8_t& byte : bytes) {
      if (at < input.operands.size()) {
        byte = input.operands[at++];
      } else if ((input.options & kZeroOperands) == 0) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        byte = static_cast<uint8_t>(state >> 11 & (state & 1 ? 255 : 3));
      }
    }
    out.push_back(std::move(bytes));
  }
  return out;
}

std::vector<sd::Segment> Segments(std::vector<Bytes>* operands) {
  std::vector<sd::Segment> out;
  for (Bytes& bytes : *operands) out.push_back({bytes.data(), bytes.size()});
  return out;
}

/*! \brief The sums that a timing must keep. */
void CheckTiming(const sd::Timing& timing) {
  sd::EventCounts events;
  uint64_t cycles = 0;
  for (const sd::LayerTime& layer : timing.layers) {
    cycles += layer.cycles;
    events.Add(layer.events);
  }
  Check(cycles == timing.cycles, "layers share the cycles");
  for (int i = 0; i < sd::kNumEnergyEvent; ++i) {
    const auto event = static_cast<sd::EnergyEvent>(i);
    Check(events[event] == timing.events[event], "events of the layers add up");
  }
  for (const sd::QueueTime& q : timing.queues) {
    Check(q.busy + q.token + q.dispatch + q.idle == timing.cycles, "a queue's times add up");
  }
  Check(std::max(timing.dram_read_busy, timing.dram_write_busy) <= timing.cycles,
        "a channel has time");
}

/*! \brief Times without operands, as a tile search does. */
void TimeAlone(const sd::Program& program, const sd::Config& config) {
  const sd::Machine machine = sd::Machine::From(config);
  if (machine.serial) return;
  CheckTiming(sd::TimeProgram(machine, program, {}));
}

void Run(const Input& input) {
  static sd::Workspace shared;
  const sd::Program program = sd::Program::Parse(input.program.data(), input.program.size());
  ++reached.decoded;
  if (program.instructions.size() > kMaxInstructions) return;
  uint64_t total = 0;
  for (const uint64_t n : program.segment_bytes) {
    if (n > kMaxSegmentBytes) return;
    total += n;
  }
  if (total > kMaxOperandBytes) return;
  const sd::Config config = sd::Config::Parse(input.config);
  program.CheckFits(config);
  try {
    TimeAlone(program, config);
  } catch (const sd::Error& error) {
    Check(error.what()[0] != '\0', "an error says something");
  }
  const std::vector<Bytes> fresh = Operands(program, input);
  std::vector<Bytes> functional = fresh;
  {
    Budget budget(program, nullptr, nullptr);
    sd::Execute(program, Segments(&functional), &shared, &budget);
  }
  ++reached.executed;
  const sd::Machine machine = sd::Machine::From(config);
  sd::TimedRun timed(config, program);
  std::vector<Bytes> second = fresh;
  {
    sd::Workspace own;
    Budget budget(program, timed.observer(), &machine);
    sd::Execute(program, Segments(&second), &own, &budget);
  }
  Check(functional == second, "neither time nor the workspace change a result");
  sd::JsonWriter json;
  json.BeginObject();
  timed.Write(&json, (input.options & kTrace) != 0);
  json.EndObject();
  ++reached.timed;
  if (machine.serial) ++reached.serial;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ++reached.runs;
  const std::optional<Input> input = Input::Parse(data, size);
  if (!input) return 0;
  try {
    Run(*input);
  } catch (const sd::Error& error) {
    Check(error.what()[0] != '\0', "an error says something");
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  sd::fuzz::Random random(seed);
  std::optional<Input> input = Input::Parse(data, size);
  if (!input || sd::fuzz::OneIn(random, 100)) return LLVMFuzzerMutate(data, size, max_size);
  sd::fuzz::MutateInput(random, LLVMFuzzerMutate, max_size, &*input);
  const Bytes bytes = input->Serialise();
  if (bytes.size() > max_size) return size;
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* data1, size_t size1,
                                            const uint8_t* data2, size_t size2, uint8_t* out,
                                            size_t max_out_size, unsigned int seed) {
  using sd::fuzz::ProgramParts;
  sd::fuzz::Random random(seed);
  std::optional<Input> input = Input::Parse(data1, size1);
  const std::optional<Input> other = Input::Parse(data2, size2);
  if (!input || !other) return 0;
  auto parts = ProgramParts::Parse(input->program.data(), input->program.size());
  const auto more = ProgramParts::Parse(other->program.data(), other->program.size());
  if (!parts || !more) return 0;
  if (sd::fuzz::OneIn(random, 6)) {
    input->config = other->config;
  } else {
    sd::fuzz::Splice(random, *more, &*parts);
    input->program = parts->Serialise();
  }
  const Bytes bytes = input->Serialise();
  if (bytes.size() > max_out_size) return 0;
  std::copy(bytes.begin(), bytes.end(), out);
  return bytes.size();
}
