// LOAD and STORE.
#include <cstring>
#include <string>

#include "load_shape.h"
#include "unit.h"

namespace sd {
namespace {

using isa::Mem;

constexpr uint64_t kDramWord = 16;

uint64_t LastWord(uint64_t base, uint64_t x, uint64_t y, uint64_t ys, uint64_t z, uint64_t zs) {
  return base + (x - 1) + (y - 1) * ys + (z - 1) * zs;
}

/*! \brief Bytes of DRAM words [first, last] of a segment; throws if they do not exist. */
uint8_t* Dram(const Unit& unit, uint32_t seg, uint64_t first, uint64_t last) {
  if (seg >= unit.segments.size()) {
    unit.Fail("segment " + std::to_string(seg) + " does not exist",
              "below " + std::to_string(unit.segments.size()));
  }
  const uint64_t bytes = unit.program.segment_bytes[seg];
  if ((last + 1) * kDramWord > bytes) {
    unit.Fail("touches byte " + std::to_string((last + 1) * kDramWord - 1) + " of segment " +
                  std::to_string(seg),
              "a byte below " + std::to_string(bytes) + ", which is what the program declares");
  }
  return unit.segments[seg].data + first * kDramWord;
}

/*! \brief Writes 8-bit lanes minus a zero point as int32 lanes. */
void Widen(uint8_t* to, const uint8_t* from, uint64_t lanes, bool is_signed, int32_t zero) {
  for (uint64_t i = 0; i < lanes; ++i) {
    const int32_t value = (is_signed ? static_cast<int8_t>(from[i]) : from[i]) - zero;
    std::memcpy(to + 4 * i, &value, 4);
  }
}

/*! \brief Spreads pixels of 4 channels over words of 16. */
void Expand(uint8_t* to, const uint8_t* from, uint64_t pixels) {
  std::memset(to, 0, pixels * kDramWord);
  for (uint64_t i = 0; i < pixels; ++i) std::memcpy(to + i * kDramWord, from + 4 * i, 4);
}

/*! \brief Records of 9 bytes to words whose next 3 bytes are given and whose rest is zero. */
void Spread(uint8_t* to, const uint8_t* from, const isa::Load& load) {
  const uint8_t next[3] = {static_cast<uint8_t>(load.pad_value), static_cast<uint8_t>(load.fill),
                           static_cast<uint8_t>(load.fill >> 8)};
  std::memset(to, 0, load.x * kDramWord);
  for (uint64_t i = 0; i < load.x; ++i) {
    std::memcpy(to + i * kDramWord, from + kRecordBytes * i, kRecordBytes);
    std::memcpy(to + i * kDramWord + kRecordBytes, next, sizeof(next));
  }
}

void CheckTransform(const Unit& unit, const isa::Load& load, uint32_t flags) {
  const auto mem = static_cast<Mem>(load.mem);
  const auto xform = static_cast<isa::Xform>(load.xform);
  const bool widen = xform == isa::Xform::kWiden;
  const bool expand = xform == isa::Xform::kExpand4;
  const bool spread = xform == isa::Xform::kSpread9;
  if (widen && mem != Mem::kAcc) unit.Fail("WIDEN into another memory", "ACC");
  if (expand && mem != Mem::kInp) unit.Fail("EXPAND4 into another memory", "INP");
  if (spread && mem != Mem::kBasis && mem != Mem::kQp) {
    unit.Fail("SPREAD9 into another memory", "BASIS or QP");
  }
  if ((flags & 1) != 0 && !widen) unit.Fail("flag 0 without WIDEN", "no flag");
  if (flags > 1 && !expand) unit.Fail("flag 1 or 2 without EXPAND4", "no flag");
  if (load.fill != 0 && !spread) unit.Fail("fill without SPREAD9", "0");
  if (spread && (load.pad_l | load.pad_r | load.pad_t | load.pad_b) != 0) {
    unit.Fail("SPREAD9 with pads", "no pads");
  }
}

}  // namespace

void ExecuteLoad(Unit& unit, const isa::Load& load) {
  const auto mem = static_cast<Mem>(load.mem);
  const auto xform = static_cast<isa::Xform>(load.xform);
  const bool widen = xform == isa::Xform::kWiden;
  const bool expand = xform == isa::Xform::kExpand4;
  const uint32_t flags = unit.event.instruction->flags;
  const bool is_signed = (flags & 1) != 0;
  CheckTransform(unit, load, flags);
  const uint64_t word = Memories::word_bytes(mem);
  const LoadShape shape = ShapeOf(load, flags);
  if (xform == isa::Xform::kCopy && shape.chip_words * word != load.x * kDramWord) {
    unit.Fail("x is " + std::to_string(load.x),
              "a multiple of the " + std::to_string(word / kDramWord) +
                  " DRAM words of a word of " + isa::kMemories[load.mem].name);
  }
  const uint64_t x = shape.chip_words;
  const uint64_t columns = x + load.pad_l + load.pad_r;
  const uint64_t rows = uint64_t{load.y} + load.pad_t + load.pad_b;
  if (columns == 0 || rows == 0 || load.z == 0) unit.Fail("moves nothing", "positive extents");
  unit.CheckWords(mem, load.sram,
                  LastWord(load.sram, columns, rows, load.sram_ys, load.z, load.sram_zs));
  const bool has_data = x != 0 && load.y != 0;
  const uint8_t* dram = nullptr;
  if (has_data) {
    dram = Dram(unit, load.seg, load.dram,
                LastWord(load.dram, shape.dram_words, load.y, load.dram_ys, load.z, load.dram_zs));
  } else if (load.seg >= unit.segments.size()) {
    unit.Fail("segment " + std::to_string(load.seg) + " does not exist",
              "below " + std::to_string(unit.segments.size()));
  }
  // A pad of WIDEN is pad_value minus itself.
  const int fill = widen ? 0 : static_cast<int>(load.pad_value);
  const int32_t zero =
      is_signed ? static_cast<int8_t>(load.pad_value) : static_cast<int32_t>(load.pad_value);
  for (uint64_t z = 0; z < load.z; ++z) {
    for (uint64_t row = 0; row < rows; ++row) {
      const uint64_t first = load.sram + z * load.sram_zs + row * load.sram_ys;
      uint8_t* to = unit.memories.Word(mem, first);
      unit.memories.MarkWritten(mem, first, columns);
      if (row < load.pad_t || row >= uint64_t{load.pad_t} + load.y) {
        std::memset(to, fill, columns * word);
        continue;
      }
      std::memset(to, fill, load.pad_l * word);
      to += load.pad_l * word;
      if (has_data) {
        const uint64_t from = z * load.dram_zs + (row - load.pad_t) * uint64_t{load.dram_ys};
        const uint8_t* bytes = dram + from * kDramWord;
        if (widen) {
          Widen(to, bytes, load.x * kDramWord, is_signed, zero);
        } else if (expand) {
          Expand(to, bytes + 4 * shape.skip, x);
        } else if (xform == isa::Xform::kSpread9) {
          Spread(to, bytes, load);
        } else {
          std::memcpy(to, bytes, load.x * kDramWord);
        }
      }
      std::memset(to + x * word, fill, load.pad_r * word);
    }
  }
  unit.counts.dram_read += shape.dram_words * load.y * load.z * kDramWord;
  unit.counts.write[load.mem] += columns * rows * load.z * word;
}

void ExecuteStore(Unit& unit, const isa::Store& store) {
  const auto mem = static_cast<Mem>(store.mem);
  if (store.x == 0 || store.y == 0 || store.z == 0) unit.Fail("moves nothing", "positive extents");
  const uint64_t first_result = unit.segments.size() - unit.program.n_results;
  if (store.seg < first_result || store.seg >= unit.segments.size()) {
    unit.Fail("stores to segment " + std::to_string(store.seg),
              "a result, segment " + std::to_string(first_result) + ".." +
                  std::to_string(unit.segments.size() - 1));
  }
  const uint64_t word = Memories::word_bytes(mem);
  const uint64_t dram_x = store.x * (word / kDramWord);
  unit.CheckWords(mem, store.sram,
                  LastWord(store.sram, store.x, store.y, store.sram_ys, store.z, store.sram_zs));
  uint8_t* dram =
      Dram(unit, store.seg, store.dram,
           LastWord(store.dram, dram_x, store.y, store.dram_ys, store.z, store.dram_zs));
  for (uint64_t z = 0; z < store.z; ++z) {
    for (uint64_t y = 0; y < store.y; ++y) {
      const uint8_t* from =
          unit.Read(mem, store.sram + z * store.sram_zs + y * store.sram_ys, store.x);
      std::memcpy(dram + (z * store.dram_zs + y * uint64_t{store.dram_ys}) * kDramWord, from,
                  store.x * word);
    }
  }
  const uint64_t bytes = uint64_t{store.x} * store.y * store.z * word;
  unit.counts.read[store.mem] += bytes;
  unit.counts.dram_write += bytes;
}

}  // namespace sd
