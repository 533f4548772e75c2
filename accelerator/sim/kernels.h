#ifndef SD_SIM_KERNELS_H_
#define SD_SIM_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace sd {

/*! \brief Requantisation parameters of 16 lanes. */
struct RequantWords {
  int32_t m0[16];
  int32_t left[16];
  int32_t right[16];
  int32_t zp[16];
  int32_t lo[16];
  int32_t hi[16];
};

/*! \brief One output pixel of a GEMM: where its inputs start and where its 16 sums are. */
struct Pixel {
  const int16_t* input;
  uint8_t* acc;  // 16 int32, any alignment
};

/*!
 * \brief acc[0..15] += sum over i, j of input[offsets[i] + j] * weights[i][filter][j], j < 2.
 *
 * weights: int16 [n][16][2]. Sums are modulo 2^32.
 */
using PairsFn = void (*)(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                         const int16_t* weights, size_t n);

/*!
 * \brief acc[lane] += sum over i of input[offsets[i] + lane] * weights[i][lane] (depthwise).
 *
 * weights: int16 [n][16].
 */
using LanesFn = void (*)(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                         const int16_t* weights, size_t n);

/*! \brief lanes = mbqm(lanes), with zero point and clip if asked for. */
using RequantFn = void (*)(int32_t* lanes, const RequantWords& words, bool clip);

/*! \brief Saturates 16 int32 lanes to 8 bits. */
using NarrowFn = void (*)(const int32_t* lanes, uint8_t* to, bool is_signed);

/*! \brief Inner loops for one kind of processor. */
struct KernelSet {
  const char* name;
  PairsFn pairs;
  LanesFn lanes;
  RequantFn requant;
  NarrowFn narrow;
};

/*! \brief Plain C++; the others give the same bits. */
const KernelSet& PortableKernels();
/*! \brief The best set that this processor runs (environment SD_KERNELS=portable overrides). */
const KernelSet& Kernels();

/*! \brief As PairsFn with int32 weights [n][16] and single inputs, for weights beyond int16. */
void WidePixels(const Pixel* pixels, size_t n_pixels, const int32_t* offsets,
                const int32_t* weights, size_t n);

}  // namespace sd

#endif  // SD_SIM_KERNELS_H_
