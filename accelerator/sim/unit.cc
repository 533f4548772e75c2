#include "unit.h"

#include "error.h"

namespace sd {

void Unit::Fail(const std::string& found, const std::string& expected) const {
  throw ProgramError(where() + ": " + found + ". Expected: " + expected + ".");
}

void Unit::FailWords(isa::Mem mem, uint64_t word) const {
  Fail("touches " + std::string(isa::kMemories[static_cast<int>(mem)].name) + " word " +
           std::to_string(word),
       "a word below " + std::to_string(memories.words(mem)) +
           ", which is what the program declares");
}

void Unit::FailUnwritten(isa::Mem mem, uint64_t word) const {
  Fail("reads uninitialised " + std::string(isa::kMemories[static_cast<int>(mem)].name) + " word " +
           std::to_string(word),
       "a word that an earlier instruction wrote");
}

const uint8_t* Unit::Read(isa::Mem mem, uint64_t first, uint64_t count) const {
  CheckWords(mem, first, first + count - 1);
  const int64_t hole = memories.FirstUnwritten(mem, first, count);
  if (hole >= 0) FailUnwritten(mem, static_cast<uint64_t>(hole));
  return memories.Word(mem, first);
}

}  // namespace sd
