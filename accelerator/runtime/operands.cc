#include "operands.h"

#include <tvm/ffi/error.h>

namespace sd {
namespace runtime {

Segment SegmentOf(const DLTensor& tensor, const std::string& what) {
  const auto fail = [&](const std::string& found, const std::string& expected) {
    throw ProgramError(what + " " + found + ". Expected: " + expected + ".");
  };
  if (tensor.device.device_type != kDLCPU) {
    fail("lies on device type " + std::to_string(tensor.device.device_type), "CPU memory");
  }
  int64_t elements = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.strides != nullptr && tensor.shape[i] != 1 && tensor.strides[i] != elements) {
      fail("is not contiguous", "row-major without gaps");
    }
    if (tensor.shape[i] < 0 || __builtin_mul_overflow(elements, tensor.shape[i], &elements)) {
      fail("has no size that exists", "a shape of an array in memory");
    }
  }
  const int64_t bits = int64_t{tensor.dtype.bits} * tensor.dtype.lanes;
  if (bits % 8 != 0) fail("has elements of " + std::to_string(bits) + " bits", "whole bytes");
  Segment segment;
  segment.data = static_cast<uint8_t*>(tensor.data) + tensor.byte_offset;
  if (__builtin_mul_overflow(elements, bits / 8, &elements)) {
    fail("has no size that exists", "a shape of an array in memory");
  }
  segment.bytes = static_cast<uint64_t>(elements);
  return segment;
}

void Raise(const char* kind, const std::string& message) {
  throw tvm::ffi::Error(kind, message, "");
}

}  // namespace runtime
}  // namespace sd
