#include "timing.h"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "checked.h"
#include "error.h"

namespace sd {
namespace {

constexpr int kLd = static_cast<int>(isa::Queue::kLd);
constexpr int kSt = static_cast<int>(isa::Queue::kSt);
constexpr uint64_t kFetchInstructions = 4;  // of one fetch burst
constexpr uint64_t kMaxDuration = uint64_t{1} << 40;
constexpr uint64_t kMaxTime = uint64_t{1} << 62;

/*! \brief Costs of a program's instructions; SETW takes effect in the order of the GE queue. */
class Costs {
 public:
  Costs(const Machine& machine, const Program& program,
        const std::vector<std::optional<GemmData>>& data)
      : machine_(machine), program_(program), data_(data) {}

  Cost Of(size_t index) {
    const Instruction& instruction = program_.instructions[index];
    Cost cost;
    switch (instruction.opcode) {
      case isa::Opcode::kNop:
        cost.front = 1;
        break;
      case isa::Opcode::kLoad:
        cost = LoadCost(machine_, std::get<isa::Load>(instruction.body), instruction.flags);
        break;
      case isa::Opcode::kStore:
        cost = StoreCost(machine_, std::get<isa::Store>(instruction.body));
        break;
      case isa::Opcode::kAlu:
        cost = AluCost(machine_, std::get<isa::Alu>(instruction.body), instruction.flags);
        break;
      case isa::Opcode::kSetw:
        setw_ = &instruction;
        geometry_ = GeometryOf(std::get<isa::Setw>(instruction.body), {index, instruction.opcode});
        cost.front = machine_.decode + 1;
        break;
      case isa::Opcode::kGemm:
        cost = OfGemm(index, instruction);
        break;
      case isa::Opcode::kMark:
      case isa::Opcode::kFence:
      case isa::Opcode::kFinish:
        break;
    }
    cost.events.Add(EnergyEvent::kDramReadInstructions, isa::kInstructionBytes);
    if (cost.Total() > kMaxDuration) {
      throw ProgramError(Where(index, instruction) + ": takes " + std::to_string(cost.Total()) +
                         " cycles. Expected: at most 2^40.");
    }
    return cost;
  }

 private:
  Cost OfGemm(size_t index, const Instruction& instruction) {
    const Site site{index, instruction.opcode};
    if (setw_ == nullptr) {
      throw ProgramError(site.text() + ": no weight form is set. Expected: a SETW before it.");
    }
    const auto& setw = std::get<isa::Setw>(setw_->body);
    GemmPlan plan = PlanGemm(machine_, std::get<isa::Gemm>(instruction.body), setw,
                             (setw_->flags & 1) != 0, geometry_, site);
    Cost cost;
    cost.front = plan.cycles;
    cost.array = plan.array;
    if (machine_.serial) {
      const std::optional<GemmData> data =
          index < data_.size() ? data_[index] : std::optional<GemmData>();
      if (!data) {
        throw ConfigError(site.text() +
                          ": the cycles of a bit-serial array depend on the data. What to do: run "
                          "the program on tensors in timed mode, or choose a parallel array.");
      }
      cost.front = plan.Overhead() + data->body;
      cost.array = plan.OverheadArray();
      cost.array.Add(data->array);
      plan.events.Add(EnergyEvent::kBoothDigit, data->digits);
    }
    cost.events = plan.events;
    return cost;
  }

  const Machine& machine_;
  const Program& program_;
  const std::vector<std::optional<GemmData>>& data_;
  const Instruction* setw_ = nullptr;
  WeightGeometry geometry_;
};

/*! \brief State of one in-order queue. */
struct QueueState {
  std::deque<std::pair<size_t, uint64_t>> waiting;  // dispatched: instruction, time
  std::vector<uint64_t> issues;                     // of executed instructions
  std::vector<uint64_t> ends;
  size_t dispatched = 0;
  uint64_t decoded = 0;   // the next one can issue from here on
  uint64_t data_end = 0;  // of the DRAM channel
  uint64_t cursor = 0;    // time accounted for
  uint64_t end = 0;
};

/*! \brief Arrival of a signal, and the queue it came from. */
struct Signal {
  uint64_t time = 0;
  int queue = 0;
};

/*! \brief A semaphore's signals; the k-th wait takes the k-th. */
struct Semaphore {
  std::deque<Signal> signals;
};

/*! \brief Evaluates the composition. */
class Composer {
 public:
  Composer(const Machine& machine, const Program& program,
           const std::vector<std::optional<GemmData>>& data)
      : machine_(machine), program_(program), costs_(machine, program, data) {
    timing_.spans.resize(program.instructions.size());
    layer_of_.resize(program.instructions.size());
    AssignLayers();
  }

  Timing Run() {
    for (bool progress = true; progress;) {
      progress = Dispatch();
      for (int q = 0; q < isa::kNumQueue; ++q) {
        while (Execute(q)) progress = true;
      }
    }
    if (next_ < program_.instructions.size()) ThrowDeadlock();
    for (const QueueState& queue : queues_) {
      if (!queue.waiting.empty()) ThrowDeadlock();
    }
    Close();
    return std::move(timing_);
  }

 private:
  void AssignLayers() {
    std::map<int64_t, size_t> position;
    int64_t layer = -1;
    for (size_t i = 0; i < program_.instructions.size(); ++i) {
      const Instruction& instruction = program_.instructions[i];
      if (const auto* mark = std::get_if<isa::Mark>(&instruction.body)) layer = mark->layer;
      const auto [it, is_new] = position.emplace(layer, timing_.layers.size());
      if (is_new) {
        timing_.layers.emplace_back();
        timing_.layers.back().layer = layer;
      }
      layer_of_[i] = it->second;
    }
  }

  /*! \brief When an instruction has arrived from memory. */
  uint64_t Fetched(size_t index) const {
    if (!machine_.fetch) return 0;
    const uint64_t burst =
        CeilDiv(kFetchInstructions * isa::kInstructionBytes, machine_.dram_bytes);
    return machine_.dram_latency + (index / kFetchInstructions + 1) * burst;
  }

  /*! \brief Moves instructions to their queues, in program order. */
  bool Dispatch() {
    bool progress = false;
    for (; next_ < program_.instructions.size(); ++next_, progress = true) {
      const Instruction& instruction = program_.instructions[next_];
      uint64_t time = std::max(dispatch_, Fetched(next_));
      if (instruction.queue != kNoQueue) {
        QueueState& queue = queues_[instruction.queue];
        if (machine_.queue_depth != 0 && queue.dispatched >= machine_.queue_depth) {
          const size_t leaver = queue.dispatched - machine_.queue_depth;
          if (leaver >= queue.issues.size()) return progress;
          time = std::max(time, queue.issues[leaver]);
        }
        ++queue.dispatched;
        queue.waiting.emplace_back(next_, time);
      } else {
        if (instruction.opcode != isa::Opcode::kMark) {
          for (const QueueState& queue : queues_) {
            if (!queue.waiting.empty()) return progress;
            time = std::max(time, queue.end);
          }
        }
        Account(next_, costs_.Of(next_));
        timing_.spans[next_] = {time, time};
      }
      dispatch_ = time;
    }
    return progress;
  }

  /*! \brief Executes the head of a queue if its semaphores have been signalled. */
  bool Execute(int q) {
    QueueState& queue = queues_[q];
    if (queue.waiting.empty()) return false;
    const auto [index, dispatched] = queue.waiting.front();
    const Instruction& instruction = program_.instructions[index];
    if (Blocking(instruction) >= 0) return false;
    uint64_t issue = std::max(dispatched, queue.decoded);
    const bool transfer = q == kLd || q == kSt;
    const size_t in_flight = transfer ? machine_.dram_outstanding : 1;
    if (queue.ends.size() >= in_flight) {
      issue = std::max(issue, queue.ends[queue.ends.size() - in_flight]);
    }
    int cause = q;  // queue whose signal came last
    for (const int semaphore : instruction.wait) {
      if (semaphore < 0) continue;
      const Signal signal = semaphores_[semaphore].signals.front();
      semaphores_[semaphore].signals.pop_front();
      if (signal.time > issue) cause = signal.queue;
      issue = std::max(issue, signal.time);
    }
    const Cost cost = costs_.Of(index);
    const uint64_t data_start = std::max(issue + cost.front + cost.latency, queue.data_end);
    const uint64_t end = std::max(data_start + cost.data + cost.tail, queue.end);
    if (end > kMaxTime) {
      throw ProgramError(Where(index, instruction) +
                         ": ends after 2^62 cycles. Expected: earlier.");
    }
    queue.waiting.pop_front();
    queue.issues.push_back(issue);
    queue.ends.push_back(end);
    queue.decoded = issue + cost.front;
    queue.data_end = data_start + cost.data;
    queue.end = end;
    for (const int semaphore : instruction.signal) {
      if (semaphore >= 0) semaphores_[semaphore].signals.push_back({end, q});
    }
    timing_.spans[index] = {issue, end};
    AccountQueue(q, index, cause, dispatched, issue, end);
    Account(index, cost);
    return true;
  }

  /*! \brief A semaphore that the instruction still waits for, or -1. */
  int Blocking(const Instruction& instruction) const {
    for (int i = 0; i < 2; ++i) {
      const int semaphore = instruction.wait[i];
      if (semaphore < 0) continue;
      const size_t needed = i == 1 && instruction.wait[0] == semaphore ? 2 : 1;
      if (semaphores_[semaphore].signals.size() < needed) return semaphore;
    }
    return -1;
  }

  /*! \brief A queue's time up to the end of an instruction, for the program and the layer. */
  void AccountQueue(int q, size_t index, int cause, uint64_t dispatched, uint64_t issue,
                    uint64_t end) {
    uint64_t& cursor = queues_[q].cursor;
    QueueTime time;
    if (issue > cursor) {
      const uint64_t arrived = std::clamp(dispatched, cursor, issue);
      time.dispatch = arrived - cursor;
      time.token = issue - arrived;
      cursor = issue;
    }
    if (end > cursor) {
      time.busy = end - cursor;
      cursor = end;
    }
    const auto add = [&](TimeShare* share) {
      share->queues[q].busy += time.busy;
      share->queues[q].token += time.token;
      share->queues[q].dispatch += time.dispatch;
      share->waits[q][cause] += time.token;
    };
    add(&timing_);
    add(&timing_.layers[layer_of_[index]]);
  }

  void Account(size_t index, const Cost& cost) {
    const Instruction& instruction = program_.instructions[index];
    const auto opcode = static_cast<size_t>(instruction.opcode);
    const auto add = [&](TimeShare* share) {
      ++share->class_count[opcode];
      AddTo(&share->class_cycles[opcode], cost.Total());
      share->class_events[opcode].Add(cost.events);
      if (instruction.opcode == isa::Opcode::kGemm) share->array.Add(cost.array);
      if (instruction.queue == kLd) AddTo(&share->dram_read_busy, cost.beats);
      if (instruction.queue == kSt) AddTo(&share->dram_write_busy, cost.beats);
    };
    add(&timing_);
    add(&timing_.layers[layer_of_[index]]);
  }

  /*! \brief Totals, and each layer's share of them. */
  void Close() {
    for (size_t i = 0; i < timing_.spans.size(); ++i) {
      const uint64_t end = timing_.spans[i].end;
      if (end > timing_.cycles) {
        timing_.layers[layer_of_[i]].cycles += end - timing_.cycles;
        timing_.cycles = end;
      }
    }
    const auto sum = [](TimeShare* share) {
      for (const EventCounts& events : share->class_events) share->events.Add(events);
    };
    sum(&timing_);
    for (LayerTime& layer : timing_.layers) sum(&layer);
    for (int q = 0; q < isa::kNumQueue; ++q) {
      timing_.queues[q].idle = timing_.cycles - queues_[q].cursor;
    }
  }

  [[noreturn]] void ThrowDeadlock() const {
    std::string message = "the program is in a deadlock:";
    for (int q = 0; q < isa::kNumQueue; ++q) {
      message += std::string(q == 0 ? " " : "; ") + isa::kQueueNames[q] + " ";
      if (queues_[q].waiting.empty()) {
        message += "is empty";
        continue;
      }
      const size_t index = queues_[q].waiting.front().first;
      message += "waits at " + Where(index, program_.instructions[index]) + " for semaphore " +
                 std::to_string(Blocking(program_.instructions[index]));
    }
    if (next_ < program_.instructions.size()) {
      message += "; " + Where(next_, program_.instructions[next_]) + " cannot be dispatched";
    }
    throw DeadlockError(message +
                        ". Expected: every semaphore that is waited for is signalled, in program "
                        "order at most queue_depth instructions later.");
  }

  const Machine& machine_;
  const Program& program_;
  Costs costs_;
  Timing timing_;
  std::vector<size_t> layer_of_;
  std::array<QueueState, isa::kNumQueue> queues_;
  std::array<Semaphore, isa::kNumSemaphores> semaphores_;
  size_t next_ = 0;
  uint64_t dispatch_ = 0;
};

}  // namespace

Timing TimeProgram(const Machine& machine, const Program& program,
                   const std::vector<std::optional<GemmData>>& data) {
  return Composer(machine, program, data).Run();
}

}  // namespace sd
