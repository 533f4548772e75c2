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
  copies_.assign(inp, 0);
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
    std::memset(copies_.data() + first, 0, count);
    ++inp_version_;
  }
}

template <typename Make>
void Memories::Update(uint64_t first, uint64_t last, Copy copy, Copy other, Make make) const {
  for (uint64_t word = first; word <= last; ++word) {
    if ((copies_[word] & copy) != 0) continue;
    uint64_t end = word + 1;
    while (end <= last && (copies_[end] & copy) == 0) ++end;
    uint8_t* copies = copies_.data();
    for (uint64_t i = word; i < end; ++i) {
      copies[i] = static_cast<uint8_t>((copies[i] | copy) & ~other);
    }
    make(word, end - word);
    word = end;
  }
}

const int16_t* Memories::WidenedInput(uint64_t first, uint64_t last, bool is_signed) {
  const Copy copy = is_signed ? kWidenedSigned : kWidened;
  const Copy other = is_signed ? kWidened : kWidenedSigned;
  Update(first, last, copy, other, [&](uint64_t word, uint64_t n) {
    Kernels().widen(Word(isa::Mem::kInp, word), widened_.data() + word * 16, n * 16, is_signed);
  });
  return widened_.data();
}

const uint8_t* Memories::InputDigits(uint64_t first, uint64_t last, bool is_signed) const {
  const size_t bytes = size_t{words(isa::Mem::kInp)} * 16;
  if (digits_.size() < bytes) digits_.resize(bytes);
  const Copy copy = is_signed ? kDigitsSigned : kDigits;
  const Copy other = is_signed ? kDigits : kDigitsSigned;
  Update(first, last, copy, other, [&](uint64_t word, uint64_t n) {
    Kernels().digits(Word(isa::Mem::kInp, word), digits_.data() + word * 16, n * 16, is_signed);
  });
  return digits_.data();
}

}  // namespace sd
