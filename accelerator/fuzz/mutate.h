#ifndef SD_FUZZ_MUTATE_H_
#define SD_FUZZ_MUTATE_H_

#include "input.h"

namespace sd {
namespace fuzz {

/*! \brief Changes bytes without regard to what they mean: libFuzzer's, or the driver's. */
using RawMutate = size_t (*)(uint8_t* data, size_t size, size_t max_size);

/*!
 * \brief A program that is likely to run: fills the memories, then random instructions whose
 * addresses mostly exist.
 */
ProgramParts Generate(Random& random);

/*! \brief One change that keeps the layout of a program: a field, an instruction, a size, order. */
void MutateProgram(Random& random, ProgramParts* program);

/*! \brief Takes a run of instructions of `other` into `program`. */
void Splice(Random& random, const ProgramParts& other, ProgramParts* program);

/*! \brief Changes the value of a line of a configuration, or drops or repeats a line. */
void MutateConfig(Random& random, std::string* config);

/*! \brief A few changes to bytes that hold a program; a new program if they hold none. */
void MutateProgramBytes(Random& random, RawMutate raw, size_t max_size, Bytes* bytes);

/*! \brief A few changes to an input; mostly of fields, sometimes of bytes. */
void MutateInput(Random& random, RawMutate raw, size_t max_size, Input* input);

}  // namespace fuzz
}  // namespace sd

#endif  // SD_FUZZ_MUTATE_H_
