#include "memories.h"

#include <cstring>

#include "kernels.h"

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
  ++inp_version_;
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
  if (mem == isa::Mem::kInp) {
    std::memset(widened_state_.data() + first, kStale, count);
    ++inp_version_;
  }
}

const int16_t* Memories::WidenedInput(uint64_t first, uint64_t last, bool is_signed) {
  const uint8_t want = is_signed ? kSigned : kUnsigned;
  for (uint64_t word = first; word <= last; ++word) {
    if (widened_state_[word] == want) continue;
    uint64_t end = word + 1;
    while (end <= last && widened_state_[end] != want) ++end;
    std::memset(widened_state_.data() + word, want, end - word);
    Kernels().widen(Word(isa::Mem::kInp, word), widened_.data() + word * 16, (end - word) * 16,
                    is_signed);
    word = end;
  }
  return widened_.data();
}

}  // namespace sd
