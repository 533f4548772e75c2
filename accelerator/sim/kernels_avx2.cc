// The kernels for AVX2, if this processor and this compiler have it.
#include "avx2.h"

namespace sd {

#if defined(__x86_64__)

const KernelSet* Avx2Kernels() {
  static const KernelSet avx2 = {
      "avx2",          avx2::Pairs,       avx2::Lanes,     avx2::PackPair,  avx2::Taps,
      avx2::Transform, avx2::PackTriples, avx2::Triples,   avx2::Transpose, avx2::Scatter,
      avx2::Requant,   avx2::RequantRow,  avx2::Narrow,    avx2::Widen,     avx2::Digits,
      avx2::Most,      avx2::Sum,         avx2::ChunkSums, avx2::Largest,   avx2::Picks};
  return __builtin_cpu_supports("avx2") ? &avx2 : nullptr;
}

#else

const KernelSet* Avx2Kernels() { return nullptr; }

#endif

}  // namespace sd
