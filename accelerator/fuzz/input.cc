#include "input.h"

#include <algorithm>
#include <cstring>

namespace sd {
namespace fuzz {
namespace {

constexpr size_t kHead = 16 + 4 * isa::kNumMem;

uint64_t ReadInt(const uint8_t* from, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint64_t{from[i]} << (8 * i);
  return value;
}

void WriteInt(uint8_t* to, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
}

void AppendInt(Bytes* out, uint64_t value, size_t bytes) {
  out->resize(out->size() + bytes);
  WriteInt(out->data() + out->size() - bytes, value, bytes);
}

}  // namespace

ProgramParts::ProgramParts() {
  std::memcpy(head.data(), isa::kMagic, 4);
  WriteInt(&head[4], isa::kVersion, 2);
  set_results(1);
}

std::optional<ProgramParts> ProgramParts::Parse(const uint8_t* data, size_t size) {
  if (size < kHead) return std::nullopt;
  ProgramParts parts;
  std::copy(data, data + 16, parts.head.begin());
  const size_t n_segments = ReadInt(data + 6, 2);
  const size_t n_instructions = ReadInt(data + 8, 4);
  if (size != kHead + 8 * n_segments + isa::kInstructionBytes * n_instructions) return std::nullopt;
  const uint8_t* at = data + 16;
  for (uint32_t& n : parts.words) {
    n = static_cast<uint32_t>(ReadInt(at, 4));
    at += 4;
  }
  for (size_t i = 0; i < n_segments; ++i, at += 8) parts.segments.push_back(ReadInt(at, 8));
  parts.instructions.resize(n_instructions);
  for (RawInstruction& instruction : parts.instructions) {
    std::copy(at, at + instruction.size(), instruction.begin());
    at += instruction.size();
  }
  return parts;
}

Bytes ProgramParts::Serialise() const {
  Bytes out(head.begin(), head.end());
  WriteInt(&out[6], segments.size(), 2);
  WriteInt(&out[8], instructions.size(), 4);
  for (const uint32_t n : words) AppendInt(&out, n, 4);
  for (const uint64_t n : segments) AppendInt(&out, n, 8);
  for (const RawInstruction& i : instructions) out.insert(out.end(), i.begin(), i.end());
  return out;
}

uint32_t ProgramParts::results() const { return static_cast<uint32_t>(ReadInt(&head[12], 4)); }
void ProgramParts::set_results(uint32_t n) { WriteInt(&head[12], n, 4); }

std::optional<Input> Input::Parse(const uint8_t* data, size_t size) {
  if (size < kPrefix) return std::nullopt;
  const size_t config = ReadInt(data + 1, 2);
  const size_t program = ReadInt(data + 3, 3);
  if (config + program > size - kPrefix) return std::nullopt;
  const uint8_t* at = data + kPrefix;
  Input input;
  input.options = data[0];
  input.config.assign(reinterpret_cast<const char*>(at), config);
  at += config;
  input.program.assign(at, at + program);
  input.operands.assign(at + program, data + size);
  return input;
}

Bytes Input::Serialise() const {
  Bytes out;
  AppendInt(&out, options, 1);
  AppendInt(&out, config.size(), 2);
  AppendInt(&out, program.size(), 3);
  out.insert(out.end(), config.begin(), config.end());
  out.insert(out.end(), program.begin(), program.end());
  out.insert(out.end(), operands.begin(), operands.end());
  return out;
}

uint32_t GetBits(const RawInstruction& instruction, uint32_t offset, uint32_t width) {
  return isa::Bits(instruction.data()).Get(offset, width);
}

void SetBits(RawInstruction* instruction, uint32_t offset, uint32_t width, uint32_t value) {
  for (uint32_t i = 0; i < width; ++i) {
    const uint32_t bit = offset + i;
    uint8_t& byte = (*instruction)[bit / 8];
    const auto mask = static_cast<uint8_t>(1U << (bit % 8));
    byte = static_cast<uint8_t>((value >> i & 1) != 0 ? byte | mask : byte & ~mask);
  }
}

}  // namespace fuzz
}  // namespace sd
