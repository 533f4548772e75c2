#include "memories.h"

#include <cstring>

namespace sd {

void Memories::Reset(const std::array<uint32_t, isa::kNumMem>& words) {
  for (int i = 0; i < isa::kNumMem; ++i) {
    Memory& memory = memories_[i];
    memory.words = words[i];
    const size_t bytes = static_cast<size_t>(words[i]) * isa::kMemories[i].word_bytes;
    if (memory.data.size() < bytes) memory.data.resize(bytes);
    memory.written.assign(words[i], 0);
  }
  const uint32_t inp = this->words(isa::Mem::kInp);
  if (widened_.size() < static_cast<size_t>(inp) * 16)
    widened_.resize(static_cast<size_t>(inp) * 16);
  widened_state_.assign(inp, kStale);
}

int64_t Memories::FirstUnwritten(isa::Mem mem, uint64_t first, uint64_t count) const {
  if (count == 0) return -1;
  const uint8_t* marks = At(mem).written.data();
  const void* hole = std::memchr(marks + first, 0, count);
  return hole == nullptr ? -1 : static_cast<const uint8_t*>(hole) - marks;
}

void Memories::MarkWritten(isa::Mem mem, uint64_t first, uint64_t count) {
  if (count == 0) return;
  std::memset(At(mem).written.data() + first, 1, count);
  if (mem == isa::Mem::kInp) std::memset(widened_state_.data() + first, kStale, count);
}

const int16_t* Memories::WidenedInput(uint64_t first, uint64_t last, bool is_signed) {
  const uint8_t want = is_signed ? kSigned : kUnsigned;
  for (uint64_t word = first; word <= last; ++word) {
    if (widened_state_[word] == want) continue;
    widened_state_[word] = want;
    const uint8_t* from = Word(isa::Mem::kInp, word);
    int16_t* to = widened_.data() + word * 16;
    if (is_signed) {
      for (int lane = 0; lane < 16; ++lane) to[lane] = static_cast<int8_t>(from[lane]);
    } else {
      for (int lane = 0; lane < 16; ++lane) to[lane] = from[lane];
    }
  }
  return widened_.data();
}

}  // namespace sd
