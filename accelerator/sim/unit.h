#ifndef SD_SIM_UNIT_H_
#define SD_SIM_UNIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "memories.h"
#include "observer.h"
#include "program.h"
#include "simulate.h"

namespace sd {

struct Workspace;

/*! \brief What a unit needs to execute one instruction. All accesses are checked through it. */
struct Unit {
  const Program& program;
  const std::vector<Segment>& segments;
  Memories& memories;
  const Event& event;
  Counts& counts;

  Site site() const { return {event.index, event.instruction->opcode}; }
  std::string where() const { return site().text(); }
  /*! \brief Throws ProgramError: what was found, what was expected. */
  [[noreturn]] void Fail(const std::string& found, const std::string& expected) const;
  /*! \brief Words [first, last] of a memory exist. */
  void CheckWords(isa::Mem mem, uint64_t first, uint64_t last) const {
    if (!memories.Contains(mem, first, last)) FailWords(mem, last);
  }
  /*! \brief A word was written before it is read. */
  void CheckWritten(isa::Mem mem, uint64_t word) const {
    if (!memories.IsWritten(mem, word)) FailUnwritten(mem, word);
  }
  /*! \brief Words [first, first + count) exist and were written; returns their bytes. */
  const uint8_t* Read(isa::Mem mem, uint64_t first, uint64_t count) const;

  [[noreturn]] void FailWords(isa::Mem mem, uint64_t word) const;
  [[noreturn]] void FailUnwritten(isa::Mem mem, uint64_t word) const;
};

void ExecuteLoad(Unit& unit, const isa::Load& load);
void ExecuteStore(Unit& unit, const isa::Store& store);
void ExecuteAlu(Unit& unit, const isa::Alu& alu);
void ExecuteGemm(Unit& unit, const isa::Gemm& gemm, Workspace& workspace, bool is_signed);

}  // namespace sd

#endif  // SD_SIM_UNIT_H_
