#include "executor.h"

#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

#include "checked.h"
#include "error.h"
#include "unit.h"
#include "workspace.h"

namespace sd {
namespace {

constexpr uint32_t kMaxCount = 255;

class Executor {
 public:
  Executor(const Program& program, const std::vector<Segment>& segments, Workspace* workspace,
           Observer* observer)
      : program_(program),
        segments_(segments),
        workspace_(*workspace),
        memories_(workspace->memories),
        observer_(observer) {
    memories_.Reset(program.required_words);
  }

  Statistics Run() {
    size_t layer = LayerAt(-1);
    for (size_t i = 0; i < program_.instructions.size(); ++i) {
      const Instruction& instruction = program_.instructions[i];
      const auto* mark = std::get_if<isa::Mark>(&instruction.body);
      if (mark != nullptr) layer = LayerAt(mark->layer);
      ++statistics_.instructions[static_cast<int>(instruction.opcode)];
      ++statistics_.layers[layer].instructions[static_cast<int>(instruction.opcode)];
      if (instruction.queue != kNoQueue) {
        queues_[instruction.queue].push_back({i, layer});
      } else if (mark == nullptr) {
        Drain();  // FENCE, FINISH
      }
    }
    for (size_t s = 0; s < counts_.size(); ++s) {
      if (counts_[s] != 0) {
        throw ProgramError("semaphore " + std::to_string(s) + " holds " +
                           std::to_string(counts_[s]) +
                           " at FINISH. Expected: every signal is waited for.");
      }
    }
    return std::move(statistics_);
  }

 private:
  struct Pending {
    size_t index;
    size_t layer;  // place in the statistics
  };

  void Drain() {
    bool waiting = true;
    while (waiting) {
      waiting = false;
      bool progress = false;
      for (auto& queue : queues_) {
        while (!queue.empty() && Acquire(program_.instructions[queue.front().index])) {
          Step(queue.front());
          queue.pop_front();
          progress = true;
        }
        waiting = waiting || !queue.empty();
      }
      if (waiting && !progress) ThrowDeadlock();
    }
  }

  /*! \brief Takes both semaphores of an instruction, or none. */
  bool Acquire(const Instruction& instruction) {
    const int first = instruction.wait[0];
    const int second = instruction.wait[1];
    if (first >= 0 && counts_[first] == 0) return false;
    if (second >= 0 && counts_[second] < (first == second ? 2U : 1U)) return false;
    if (first >= 0) --counts_[first];
    if (second >= 0) --counts_[second];
    return true;
  }

  void Step(const Pending& pending) {
    const Instruction& instruction = program_.instructions[pending.index];
    Event event;
    event.index = pending.index;
    event.instruction = &instruction;
    const int64_t layer = statistics_.layers[pending.layer].layer;
    event.layer = layer < 0 ? 0 : static_cast<uint32_t>(layer);
    if (has_setw_) {
      event.setw = &setw_;
      event.geometry = &geometry_;
    }
    if (observer_ != nullptr) observer_->Before(event, memories_);
    Unit unit{program_, segments_, memories_, event, event.counts};
    Dispatch(unit, instruction);
    if (observer_ != nullptr) observer_->After(event, memories_);
    statistics_.total.Add(event.counts);
    statistics_.layers[pending.layer].counts.Add(event.counts);
    for (const int s : instruction.signal) {
      if (s < 0) continue;
      if (counts_[s] == kMaxCount) {
        unit.Fail("semaphore " + std::to_string(s) + " overflows",
                  "at most " + std::to_string(kMaxCount) + " signals not waited for");
      }
      ++counts_[s];
    }
  }

  void Dispatch(Unit& unit, const Instruction& instruction) {
    if (const auto* load = std::get_if<isa::Load>(&instruction.body)) {
      ExecuteLoad(unit, *load);
    } else if (const auto* store = std::get_if<isa::Store>(&instruction.body)) {
      ExecuteStore(unit, *store);
    } else if (const auto* alu = std::get_if<isa::Alu>(&instruction.body)) {
      ExecuteAlu(unit, *alu);
    } else if (const auto* setw = std::get_if<isa::Setw>(&instruction.body)) {
      setw_ = *setw;
      geometry_ = GeometryOf(setw_, unit.site());
      has_setw_ = true;
      signed_ = (instruction.flags & 1) != 0;
    } else if (const auto* gemm = std::get_if<isa::Gemm>(&instruction.body)) {
      if (!has_setw_) unit.Fail("no SETW came before", "a SETW in queue GE");
      ExecuteGemm(unit, *gemm, workspace_, signed_);
    }
  }

  /*! \brief Place of a layer in the statistics. */
  size_t LayerAt(int64_t layer) {
    const auto [it, is_new] = places_.emplace(layer, statistics_.layers.size());
    if (is_new) {
      statistics_.layers.emplace_back();
      statistics_.layers.back().layer = layer;
    }
    return it->second;
  }

  [[noreturn]] void ThrowDeadlock() const {
    std::string text = "the queues wait for each other:";
    for (int q = 0; q < isa::kNumQueue; ++q) {
      text += std::string(q == 0 ? " " : "; ") + isa::kQueueNames[q];
      if (queues_[q].empty()) {
        text += " is done";
        continue;
      }
      const size_t index = queues_[q].front().index;
      const Instruction& head = program_.instructions[index];
      text += " at " + Where(index, head) + " waits for";
      const char* join = " ";
      for (const int s : head.wait) {
        if (s < 0) continue;
        text += join + ("semaphore " + std::to_string(s)) + " (" + std::to_string(counts_[s]) + ")";
        join = " and ";
      }
    }
    throw DeadlockError(text +
                        ". Expected: every wait is matched by a signal that can come first.");
  }

  const Program& program_;
  const std::vector<Segment>& segments_;
  Workspace& workspace_;
  Memories& memories_;
  Observer* observer_;
  Statistics statistics_;
  std::unordered_map<int64_t, size_t> places_;
  std::array<std::deque<Pending>, isa::kNumQueue> queues_;
  std::array<uint32_t, isa::kNumSemaphores> counts_{};
  isa::Setw setw_{};
  WeightGeometry geometry_;
  bool has_setw_ = false;
  bool signed_ = false;
};

}  // namespace

void Counts::Add(const Counts& other) {
  AddTo(&dram_read, other.dram_read);
  AddTo(&dram_write, other.dram_write);
  for (int i = 0; i < isa::kNumMem; ++i) {
    AddTo(&read[i], other.read[i]);
    AddTo(&write[i], other.write[i]);
  }
  AddTo(&macs_dense, other.macs_dense);
  AddTo(&macs, other.macs);
  AddTo(&kept_rows, other.kept_rows);
  AddTo(&shift_adds, other.shift_adds);
  AddTo(&alu_lanes, other.alu_lanes);
  AddTo(&requants, other.requants);
}

Statistics Execute(const Program& program, const std::vector<Segment>& segments,
                   Workspace* workspace, Observer* observer) {
  return Executor(program, segments, workspace, observer).Run();
}

}  // namespace sd
