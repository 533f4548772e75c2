#include "program.h"

#include <cstring>
#include <string>
#include <unordered_set>

#include "error.h"

namespace sd {
namespace {

constexpr size_t kFixedHeader = 16;
constexpr size_t kMaxLayers = 4096;

template <typename T>
T ReadInt(const uint8_t* bytes) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(static_cast<T>(bytes[i]) << 8 * i);
  return value;
}

/*! \brief Which queue waits for and which signals a semaphore, since the last FENCE. */
class SemaphoreRoles {
 public:
  void Clear() { *this = SemaphoreRoles(); }
  void Add(size_t index, const Instruction& instruction) {
    for (int i = 0; i < 2; ++i) {
      Set(waits_, "waits for", index, instruction, instruction.wait[i]);
      Set(signals_, "signals", index, instruction, instruction.signal[i]);
    }
  }

 private:
  using Roles = std::array<int8_t, isa::kNumSemaphores>;
  static Roles Unused() {
    Roles roles;
    roles.fill(-1);
    return roles;
  }
  static void Set(Roles& roles, const char* verb, size_t index, const Instruction& instruction,
                  int semaphore) {
    if (semaphore < 0) return;
    int8_t& queue = roles[semaphore];
    if (queue >= 0 && queue != instruction.queue) {
      throw ProgramError(Where(index, instruction) + ": queue " +
                         isa::kQueueNames[instruction.queue] + " " + verb + " semaphore " +
                         std::to_string(semaphore) + " and so does queue " +
                         isa::kQueueNames[queue] +
                         ". Expected: one waiting and one signalling queue a semaphore between "
                         "two FENCEs, or the result would depend on time.");
    }
    queue = static_cast<int8_t>(instruction.queue);
  }

  Roles waits_ = Unused();
  Roles signals_ = Unused();
};

}  // namespace

Program Program::Parse(const uint8_t* data, size_t size) {
  const size_t header = kFixedHeader + 4 * isa::kNumMem;
  if (size < header) {
    throw ProgramError("the program has " + std::to_string(size) + " bytes. Expected: at least " +
                       std::to_string(header) + ".");
  }
  if (std::memcmp(data, isa::kMagic, 4) != 0) {
    throw ProgramError(std::string("the program does not start with '") + isa::kMagic +
                       "'. Expected: bytes of sd_tvm.accelerator.isa.Program.");
  }
  const auto version = ReadInt<uint16_t>(data + 4);
  if (version != isa::kVersion) {
    throw ProgramError("the program has instruction set version " + std::to_string(version) +
                       ". Expected: " + std::to_string(isa::kVersion) +
                       ". What to do: compile the model again with this version.");
  }
  const auto n_segments = ReadInt<uint16_t>(data + 6);
  const auto n_instructions = ReadInt<uint32_t>(data + 8);
  if (n_segments == 0 || n_segments > isa::kMaxSegments) {
    throw ProgramError("the program has " + std::to_string(n_segments) +
                       " segments. Expected: 1.." + std::to_string(isa::kMaxSegments) + ".");
  }
  const auto n_results = ReadInt<uint32_t>(data + 12);
  if (n_results == 0 || n_results > n_segments) {
    throw ProgramError("the program has " + std::to_string(n_results) + " results. Expected: 1.." +
                       std::to_string(n_segments) + ", its segments.");
  }
  const uint64_t expected =
      header + 8ULL * n_segments + isa::kInstructionBytes * uint64_t{n_instructions};
  if (size != expected) {
    throw ProgramError("the program has " + std::to_string(size) + " bytes. Expected: " +
                       std::to_string(expected) + " for " + std::to_string(n_segments) +
                       " segments and " + std::to_string(n_instructions) + " instructions.");
  }
  Program program;
  program.n_results = n_results;
  for (int i = 0; i < isa::kNumMem; ++i) {
    program.required_words[i] = ReadInt<uint32_t>(data + kFixedHeader + 4 * i);
    if (program.required_words[i] > 1U << 16) {
      throw ProgramError("the program needs " + std::to_string(program.required_words[i]) +
                         " words of " + isa::kMemories[i].name +
                         ". Expected: at most 65536, which is what an address reaches.");
    }
  }
  const uint8_t* at = data + header;
  for (int i = 0; i < n_segments; ++i, at += 8) {
    program.segment_bytes.push_back(ReadInt<uint64_t>(at));
  }
  program.instructions.reserve(n_instructions);
  SemaphoreRoles roles;
  std::unordered_set<uint32_t> layers;
  for (size_t i = 0; i < n_instructions; ++i, at += isa::kInstructionBytes) {
    if (i > 0 && program.instructions.back().opcode == isa::Opcode::kFinish) {
      throw ProgramError("instruction " + std::to_string(i) +
                         " follows FINISH. Expected: FINISH is the last instruction.");
    }
    program.instructions.push_back(Decode(at, i));
    const Instruction& instruction = program.instructions.back();
    if (instruction.opcode == isa::Opcode::kFence) roles.Clear();
    if (const auto* mark = std::get_if<isa::Mark>(&instruction.body)) {
      layers.insert(mark->layer);
      if (layers.size() > kMaxLayers) {
        throw ProgramError(Where(i, instruction) + ": marks one layer more than " +
                           std::to_string(kMaxLayers) +
                           ". Expected: at most so many, each has its own statistics.");
      }
    }
    if (instruction.queue != kNoQueue) roles.Add(i, instruction);
  }
  if (program.instructions.empty() || program.instructions.back().opcode != isa::Opcode::kFinish) {
    throw ProgramError("the program has no FINISH. Expected: FINISH is its last instruction.");
  }
  return program;
}

void Program::CheckFits(const Config& config) const {
  for (int i = 0; i < isa::kNumMem; ++i) {
    if (required_words[i] == 0) continue;
    const uint64_t available = config.Words(static_cast<isa::Mem>(i));
    if (required_words[i] > available) {
      throw ConfigMismatchError(
          "the program needs " + std::to_string(required_words[i]) + " words of " +
          isa::kMemories[i].name + " and the configuration has " + std::to_string(available) +
          ". What to do: compile the model for this configuration, or raise " +
          isa::kMemories[i].config_key + ".");
    }
  }
}

}  // namespace sd
