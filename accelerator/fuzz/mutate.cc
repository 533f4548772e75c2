#include "mutate.h"

#include <algorithm>

#include "isa_fields.h"

namespace sd {
namespace fuzz {
namespace {

constexpr size_t kMaxInstructions = 300;
constexpr uint32_t kSemaphoreValid = 32;
constexpr uint32_t kFlagsOffset = 28;
constexpr size_t kHeaderFields = 5;  // waits, signals, flags

/*! \brief A value near the old one, a small one, or one on an edge. */
uint64_t Interesting(Random& random, uint64_t old, uint32_t bits) {
  const uint64_t mask = bits >= 64 ? UINT64_MAX : (uint64_t{1} << bits) - 1;
  switch (Below(random, 16)) {
    case 0:
      return 0;
    case 1:
      return mask;
    case 2:
      return mask - Below(random, 3);
    case 3:
      return mask >> 1;
    case 4:
      return uint64_t{1} << Below(random, bits);
    case 5:
      return random() & mask;
    case 6:
    case 7:
    case 8:
      return Below(random, 20) & mask;
    case 9:
    case 10:
    case 11:
      return (old + 1 + Below(random, 3)) & mask;
    default:
      return old - std::min<uint64_t>(old, 1 + Below(random, 3));
  }
}

/*! \brief A canonical entry of the code table. */
uint32_t CodeEntry(Random& random) {
  const auto p1 = static_cast<uint32_t>(Below(random, 8));
  const auto sign = static_cast<uint32_t>(Below(random, 2)) << 7;
  if (OneIn(random, 8)) return 7;
  return sign | p1 << 4 |
         (p1 > 0 && OneIn(random, 2) ? 8 | static_cast<uint32_t>(Below(random, p1)) : 0);
}

/*! \brief Fields of an instruction, or none if its opcode does not exist. */
const std::vector<FieldInfo>* FieldsOf(const RawInstruction& instruction) {
  const size_t opcode = instruction[0] & 15;
  return opcode < Fields().size() ? &Fields()[opcode] : nullptr;
}

void MutateField(Random& random, ProgramParts* program) {
  RawInstruction& victim = program->instructions[Below(random, program->instructions.size())];
  const auto* fields = FieldsOf(victim);
  if (fields == nullptr || fields->empty()) return;
  const bool head = fields->size() == kHeaderFields || OneIn(random, 12);
  const FieldInfo& field =
      head ? (*fields)[Below(random, kHeaderFields)]
           : (*fields)[kHeaderFields + Below(random, fields->size() - kHeaderFields)];
  uint32_t value = GetBits(victim, field.offset, field.bits);
  const std::string name = field.name;
  const RawInstruction& other = program->instructions[Below(random, program->instructions.size())];
  if (OneIn(random, 6) && (other[0] & 15) == (victim[0] & 15)) {
    value = GetBits(other, field.offset, field.bits);
  } else if (field.offset < kFlagsOffset && !OneIn(random, 16)) {  // a semaphore
    value = OneIn(random, 2) ? 0 : kSemaphoreValid + static_cast<uint32_t>(Below(random, 8));
  } else if (name.rfind("code", 0) == 0 && field.bits == 8 && !OneIn(random, 16)) {
    value = CodeEntry(random);
  } else {
    value = static_cast<uint32_t>(Interesting(random, value, field.bits));
  }
  SetBits(&victim, field.offset, field.bits, value);
}

/*! \brief Makes a later instruction wait for an earlier one. */
void AddDependence(Random& random, ProgramParts* program) {
  const size_t n = program->instructions.size();
  const size_t first = Below(random, n);
  const size_t second = Below(random, n);
  const auto semaphore =
      static_cast<uint32_t>(kSemaphoreValid + Below(random, isa::kNumSemaphores));
  const bool other = OneIn(random, 2);
  SetBits(&program->instructions[std::min(first, second)], other ? 22 : 16, 6, semaphore);
  SetBits(&program->instructions[std::max(first, second)], other ? 10 : 4, 6, semaphore);
}

void MutateHead(Random& random, ProgramParts* program) {
  switch (Below(random, 6)) {
    case 0:
    case 1:
    case 2: {
      uint32_t& words = program->words[Below(random, program->words.size())];
      words = static_cast<uint32_t>(OneIn(random, 8) ? Interesting(random, words, 17)
                                                     : words / 2 + Below(random, words + 8));
      break;
    }
    case 3:
      if (!program->segments.empty()) {
        uint64_t& bytes = program->segments[Below(random, program->segments.size())];
        bytes = OneIn(random, 8) ? Interesting(random, bytes, 64) : Below(random, 1 << 16);
      }
      break;
    case 4:
      if (OneIn(random, 2) && program->segments.size() > 1) {
        program->segments.pop_back();
      } else {
        program->segments.push_back(16 * Below(random, 1024));
      }
      break;
    default:
      program->set_results(static_cast<uint32_t>(
          OneIn(random, 8) ? random() : 1 + Below(random, program->segments.size() + 1)));
  }
}

}  // namespace

void Splice(Random& random, const ProgramParts& other, ProgramParts* program) {
  if (other.instructions.empty()) return;
  const size_t from = Below(random, other.instructions.size());
  const size_t n = 1 + Below(random, std::min<size_t>(12, other.instructions.size() - from));
  const size_t to = Below(random, program->instructions.size() + 1);
  if (program->instructions.size() + n > kMaxInstructions) return;
  program->instructions.insert(program->instructions.begin() + static_cast<ptrdiff_t>(to),
                               other.instructions.begin() + static_cast<ptrdiff_t>(from),
                               other.instructions.begin() + static_cast<ptrdiff_t>(from + n));
  for (size_t i = 0; i < program->words.size(); ++i) {
    program->words[i] = std::max(program->words[i], std::min(other.words[i], 4096U));
  }
  while (program->segments.size() < other.segments.size() && OneIn(random, 2)) {
    program->segments.insert(program->segments.begin(), other.segments[program->segments.size()]);
  }
}

void MutateProgram(Random& random, ProgramParts* program) {
  auto& list = program->instructions;
  if (list.empty()) {
    *program = Generate(random);
    return;
  }
  // The last one is FINISH.
  const size_t at =
      Below(random, OneIn(random, 50) ? list.size() : std::max<size_t>(1, list.size() - 1));
  switch (Below(random, 20)) {
    case 0:
      std::swap(list[at], list[Below(random, at + 1)]);
      break;
    case 1:
      if (list.size() < kMaxInstructions)
        list.insert(list.begin() + static_cast<ptrdiff_t>(at), list[Below(random, list.size())]);
      break;
    case 2:
      if (list.size() > 1) list.erase(list.begin() + static_cast<ptrdiff_t>(at));
      break;
    case 3:
      Splice(random, Generate(random), program);
      break;
    case 4:
      AddDependence(random, program);
      break;
    case 5:
    case 6:
      MutateHead(random, program);
      break;
    case 7:
      if (list.size() < kMaxInstructions) {
        RawInstruction fence{};
        fence[0] = static_cast<uint8_t>(
            OneIn(random, 4) ? Below(random, 16) : static_cast<size_t>(isa::Opcode::kFence));
        list.insert(list.begin() + static_cast<ptrdiff_t>(at), fence);
      }
      break;
    case 8:
      if (OneIn(random, 8))
        list[at][Below(random, list[at].size())] ^= static_cast<uint8_t>(1U << Below(random, 8));
      break;
    default:
      MutateField(random, program);
  }
}

void MutateConfig(Random& random, std::string* config) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < config->size();) {
    const size_t end = std::min(config->find('\n', at), config->size());
    lines.push_back(config->substr(at, end - at));
    at = end + 1;
  }
  if (lines.empty()) return;
  const size_t at = Below(random, lines.size());
  const size_t equals = lines[at].find('=');
  if (OneIn(random, 64)) {
    lines.erase(lines.begin() + static_cast<ptrdiff_t>(at));
  } else if (OneIn(random, 64)) {
    lines.push_back(lines[at]);
  } else if (equals != std::string::npos) {
    const uint64_t old = std::strtoull(lines[at].c_str() + equals + 1, nullptr, 10);
    const uint64_t value = OneIn(random, 3)   ? Interesting(random, old, OneIn(random, 4) ? 63 : 12)
                           : OneIn(random, 2) ? old * 2
                                              : old / 2;
    lines[at] = lines[at].substr(0, equals + 1) + std::to_string(value);
  }
  config->clear();
  for (const std::string& line : lines) *config += line + "\n";
}

void MutateProgramBytes(Random& random, RawMutate raw, size_t max_size, Bytes* bytes) {
  if (OneIn(random, 40)) {  // regardless of the layout
    const size_t size = bytes->size();
    bytes->resize(std::max<size_t>(max_size, size));
    bytes->resize(raw(bytes->data(), size, bytes->size()));
    return;
  }
  std::optional<ProgramParts> parts = ProgramParts::Parse(bytes->data(), bytes->size());
  if (!parts || OneIn(random, 50)) parts = Generate(random);
  for (size_t n = OneIn(random, 3) ? Below(random, 4) + 1 : 1; n > 0; --n)
    MutateProgram(random, &*parts);
  *bytes = parts->Serialise();
}

void MutateInput(Random& random, RawMutate raw, size_t max_size, Input* input) {
  switch (Below(random, 12)) {
    case 0:
      input->options = static_cast<uint8_t>(random());
      break;
    case 1:
    case 2:
      MutateConfig(random, &input->config);
      break;
    case 3: {
      const size_t size = input->operands.size();
      input->operands.resize(std::max<size_t>(size, std::min<size_t>(max_size, 4096)));
      input->operands.resize(raw(input->operands.data(), size, input->operands.size()));
      break;
    }
    default:
      MutateProgramBytes(random, raw, max_size / 2, &input->program);
  }
}

}  // namespace fuzz
}  // namespace sd
