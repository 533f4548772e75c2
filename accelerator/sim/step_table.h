#ifndef SD_SIM_STEP_TABLE_H_
#define SD_SIM_STEP_TABLE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "machine.h"
#include "memories.h"

namespace sd {

/*!
 * \brief The activations that the lines of a GEMM work on, for one group of channels.
 *
 * A row of weights is (plane, column): plane = row % planes, column = row / planes. The input of
 * plane p starts `plane_words[p]` words from a pixel's. Column c is channel c, and its steps are
 * `taps` words `tap_stride` apart; or, if `chunk` is not 1, it is channels chunk x c and up, a
 * step each.
 */
struct StepShape {
  enum class Kind : uint8_t {
    kPasses,  // raw weights: a step a row, `chunk` rows work at once
    kTaps,    // the steps of a row are taps
    kChunks,  // the steps of a row are channels
    kAlone,   // the same, of one channel: the other steps have no input
  };

  Kind kind = Kind::kTaps;
  bool is_signed = false;
  uint64_t inp_version = 0;
  std::vector<uint64_t> block_words;  // of each block of 16 channels, pixel (0, 0)
  uint32_t first_lane = 0;            // of the first channel in its block
  uint32_t channels = 0;
  uint32_t chunk = 1;  // channels of a column
  uint32_t steps = 1;  // of a row
  uint32_t fold = 1;
  uint32_t n_oy = 0;
  uint32_t n_ox = 0;
  uint64_t inp_oy = 0;
  uint64_t inp_ox = 0;
  uint32_t taps = 1;
  uint64_t tap_stride = 0;
  uint64_t floor = 0;  // kPasses: least cycles of a pass
  std::vector<uint64_t> plane_words;

  bool operator==(const StepShape& other) const;
  uint32_t planes() const { return static_cast<uint32_t>(plane_words.size()); }
  uint32_t columns() const {
    return kind == Kind::kTaps || kind == Kind::kAlone ? channels : (channels + chunk - 1) / chunk;
  }
};

/*! \brief Cycles of the passes of raw weights over a group of pixels. */
struct PassCycles {
  uint64_t long_cycles = 0;  // of passes of at least `floor` cycles
  uint64_t short_passes = 0;
};

/*!
 * \brief Cycles and digits of every row of a serial array's lines.
 *
 * A group is F x fold neighbouring pixels of an output row. Different output rows and kernel rows
 * read the same input: the table holds each input once, and holds it from one GEMM to the next
 * while shape and inputs stay what they are. What would be too large is evaluated group by group.
 */
class StepTable {
 public:
  explicit StepTable(const Machine& machine) : machine_(machine) {}

  /*! \brief Makes the table; all words that the shape reads exist. */
  void Make(const StepShape& shape, const Memories& memories);

  /*! \brief Changes with what the table holds; never 0 once it is made. */
  uint64_t version() const { return version_; }
  uint32_t planes() const { return planes_; }
  uint32_t columns() const { return columns_; }
  uint32_t groups() const { return groups_; }
  /*! \brief Bytes between the lines of two steps with SyncDomain::kArray. */
  size_t step_bytes() const { return columns_; }
  /*! \brief Lines of an array that step together have a table each, others one for all steps. */
  uint32_t tables() const { return tables_; }

  /*!
   * \brief Cycles of the rows of output rows [oy, oy + n) and a group: [output row][plane] ->
   * [table][column]. Valid until the next call; kRunPadding more bytes can be read.
   */
  const uint8_t* const* Lines(uint32_t oy, uint32_t n, uint32_t group);
  /*! \brief kPasses: cycles of all passes over a group. */
  PassCycles Passes(uint32_t oy, uint32_t group);

  /*! \brief Digits of a row at all pixels. */
  uint32_t RowDigits(uint32_t row) const {
    return row_digits_[size_t{row % planes_} * columns_ + row / planes_];
  }
  uint32_t RowDigits(uint32_t plane, uint32_t column) const {
    return row_digits_[size_t{plane} * columns_ + column];
  }
  /*! \brief Digits of all rows. */
  uint64_t digits() const { return digits_; }

 private:
  size_t line_bytes() const { return size_t{tables_} * columns_; }
  const uint8_t* Input(size_t block, uint64_t word) const {
    return input_ + (shape_.block_words[block] + word) * 16;
  }
  void ListOrigins();
  void UpdateInput(const Memories& memories);
  void CountDigits();
  void SumChannels(uint64_t origin);
  void AddRowDigits(uint32_t* to) const;
  void Evaluate(uint64_t origin, uint32_t group, uint8_t* to);
  void EvaluatePixels(uint64_t word, uint32_t pixels, uint8_t* to);
  void EvaluateLanes(uint64_t word, uint32_t pixels, uint8_t* to);
  PassCycles EvaluatePasses(uint64_t origin, uint32_t group);
  void ListMost(uint64_t word, uint32_t pixels);
  void AddSteps(const uint8_t* steps, uint32_t tap, uint8_t* to) const;

  const Machine& machine_;
  StepShape shape_;
  uint64_t version_ = 0;
  const uint8_t* input_ = nullptr;  // digits of INP
  uint32_t planes_ = 0;
  uint32_t columns_ = 0;
  uint32_t groups_ = 0;
  uint32_t tables_ = 1;
  uint8_t idle_ = 1;  // cycles of a step without digits
  bool stored_ = false;
  std::vector<std::pair<uint64_t, uint32_t>> uses_;  // (origin, oy * planes + plane), sorted
  std::vector<uint64_t> origins_;                    // distinct, in INP words
  std::vector<uint32_t> origin_of_;                  // [oy][plane]
  std::vector<uint8_t> lines_;                       // [origin][group][table][column]
  std::vector<PassCycles> passes_;                   // [origin][group]
  std::vector<const uint8_t*> pointers_;
  size_t lane_padding_ = 0;      // steps without input, to whole columns
  std::vector<uint8_t> most_;    // digits of each lane
  std::vector<uint8_t> steps_;   // cycles of each lane
  std::vector<uint8_t> part_;    // line of one part of a fold
  std::vector<uint8_t> pixels_;  // lines of each pixel, for SyncDomain::kLane
  std::vector<uint32_t> sums_;   // digits of each lane
  std::vector<uint32_t> row_digits_;
  uint64_t digits_ = 0;
};

}  // namespace sd

#endif  // SD_SIM_STEP_TABLE_H_
