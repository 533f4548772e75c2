#ifndef SD_SIM_LOAD_SHAPE_H_
#define SD_SIM_LOAD_SHAPE_H_

#include <cstdint>

#include "isa_generated.h"

namespace sd {

/*! \brief Pixels of a DRAM word that EXPAND4 reads. */
constexpr uint64_t kExpandPixels = 4;
/*! \brief Bytes of an on-chip word that SPREAD9 reads. */
constexpr uint64_t kRecordBytes = 9;

/*! \brief Words that one row of a LOAD moves. */
struct LoadShape {
  uint64_t dram_words = 0;  // read
  uint64_t chip_words = 0;  // written, pads not counted
  uint64_t skip = 0;        // pixels of the first DRAM word that are dropped (EXPAND4)
};

/*! \brief Shape of a LOAD; a part of an on-chip word counts as one. */
inline LoadShape ShapeOf(const isa::Load& load, uint32_t flags) {
  constexpr uint64_t kDramWord = 16;
  LoadShape shape;
  switch (static_cast<isa::Xform>(load.xform)) {
    case isa::Xform::kWiden:
      shape.dram_words = shape.chip_words = load.x;
      break;
    case isa::Xform::kExpand4:
      shape.skip = flags >> 1;
      shape.chip_words = load.x;
      if (load.x != 0) {
        shape.dram_words = (shape.skip + load.x + kExpandPixels - 1) / kExpandPixels;
      }
      break;
    case isa::Xform::kSpread9:
      shape.chip_words = load.x;
      shape.dram_words = (kRecordBytes * load.x + kDramWord - 1) / kDramWord;
      break;
    case isa::Xform::kCopy: {
      const uint64_t per_word = isa::kMemories[load.mem].word_bytes / kDramWord;
      shape.dram_words = load.x;
      shape.chip_words = (load.x + per_word - 1) / per_word;
      break;
    }
  }
  return shape;
}

}  // namespace sd

#endif  // SD_SIM_LOAD_SHAPE_H_
