#ifndef SD_RUNTIME_OPERANDS_H_
#define SD_RUNTIME_OPERANDS_H_

#include <tvm/ffi/container/tensor.h>

#include <cstddef>
#include <string>
#include <vector>

#include "../sim/simulate.h"

namespace sd {
namespace runtime {

/*!
 * \brief Bytes of a tensor. `what` names it in errors.
 *
 * Throws ProgramError unless it lies in CPU memory and is contiguous.
 */
Segment SegmentOf(const DLTensor& tensor, const std::string& what);

/*! \brief Runs f; errors of the simulator leave as errors of tvm-ffi of their own kind. */
template <typename F>
auto Guard(F f) -> decltype(f());

/*! \brief Raises an error of the simulator as one of tvm-ffi. */
[[noreturn]] void Raise(const char* kind, const std::string& message);

}  // namespace runtime
}  // namespace sd

#include "../sim/error.h"

namespace sd {
namespace runtime {

template <typename F>
auto Guard(F f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error& error) {
    Raise(error.kind(), error.what());
  }
}

}  // namespace runtime
}  // namespace sd

#endif  // SD_RUNTIME_OPERANDS_H_
