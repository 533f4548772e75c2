#include "gemm_task.h"

#include <algorithm>
#include <cstring>

namespace sd {

using isa::AccInit;
using isa::BasisKind;
using isa::Mem;
using isa::WMode;

GemmTask::GemmTask(Unit& unit_, const isa::Gemm& gemm_, Workspace& workspace_, bool is_signed_)
    : unit(unit_),
      gemm(gemm_),
      setw(*unit.event.setw),
      geometry(*unit.event.geometry),
      is_signed(is_signed_),
      workspace(workspace_),
      scratch(workspace.scratch),
      tiles_((gemm.n_m + kTileFilters - 1) / kTileFilters),
      span_((gemm.n_ox - 1) * uint64_t{gemm.inp_ox} + (setw.n_kx - 1) * uint64_t{setw.inp_kx} +
            (gemm.n_oy - 1) * uint64_t{gemm.inp_oy} + (setw.n_ky - 1) * uint64_t{gemm.inp_ky}) {
  const uint64_t last = gemm.acc + (tiles_ - 1) * gemm.acc_mb +
                        (gemm.n_oy - 1) * uint64_t{gemm.acc_oy} + gemm.n_ox - 1;
  unit.CheckWords(Mem::kAcc, gemm.acc, last);
}

uint32_t GemmTask::filters(uint64_t tile) const {
  return std::min<uint32_t>(kTileFilters, gemm.n_m - static_cast<uint32_t>(tile) * kTileFilters);
}

bool GemmTask::sums_overlap() const {
  const uint64_t rows = (gemm.n_oy - 1) * uint64_t{gemm.acc_oy};
  const uint64_t blocks = (tiles_ - 1) * uint64_t{gemm.acc_mb};
  if (gemm.n_oy > 1 && gemm.acc_oy < gemm.n_ox) return true;
  if (tiles_ > 1 && gemm.acc_mb < gemm.n_ox) return true;
  const bool rows_inside = tiles_ == 1 || gemm.acc_mb >= rows + gemm.n_ox;
  const bool blocks_inside = gemm.n_oy == 1 || gemm.acc_oy >= blocks + gemm.n_ox;
  return !rows_inside && !blocks_inside;
}

ChannelBlocks GemmTask::Blocks(uint64_t tile) const {
  return BlocksOf(setw, first_filter(tile), filters(tile), unit.site());
}

// Addresses are modulo 2^16: the instruction names channel block 0 even if the tile's first block
// is the first one on chip.
uint64_t GemmTask::InputBase(const ChannelBlocks& blocks) const {
  return (gemm.inp + blocks.first * gemm.inp_cb) % kInpAddresses;
}

InputKey GemmTask::KeyOfInputs(const ChannelBlocks& blocks) const {
  return {unit.memories.inp_version(),
          InputBase(blocks),
          blocks.count,
          first_filter(0) / setw.mg * uint64_t{setw.cg} % 16,
          gemm.inp_cb,
          gemm.n_oy,
          gemm.n_ox,
          gemm.inp_oy,
          gemm.inp_ox,
          gemm.inp_ky,
          setw.inp_kx,
          setw.n_ky << 8 | setw.n_kx,
          setw.cg,
          is_signed ? 1ULL : 0ULL};
}

void GemmTask::CheckInput(uint64_t tile) {
  const ChannelBlocks blocks = Blocks(tile);
  if (blocks.first == checked_.first && blocks.count == checked_.count) return;
  const uint64_t base = InputBase(blocks);
  unit.CheckWords(Mem::kInp, base, base + (blocks.count - 1) * gemm.inp_cb + span_);
  for (uint64_t block = 0; block < blocks.count; ++block) {
    CheckInputWords(base + block * gemm.inp_cb);
  }
  checked_ = blocks;
}

/*! \brief Every word of one channel block that the instruction reads was written. */
void GemmTask::CheckInputWords(uint64_t first) const {
  if (unit.memories.FirstUnwritten(Mem::kInp, first, span_ + 1) < 0) return;
  for (uint64_t oy = 0; oy < gemm.n_oy; ++oy) {
    for (uint64_t ky = 0; ky < setw.n_ky; ++ky) {
      const uint64_t row = first + oy * gemm.inp_oy + ky * gemm.inp_ky;
      for (uint64_t kx = 0; kx < setw.n_kx; ++kx) {
        for (uint64_t ox = 0; ox < gemm.n_ox; ++ox) {
          unit.CheckWritten(Mem::kInp, row + kx * setw.inp_kx + ox * gemm.inp_ox);
        }
      }
    }
  }
}

const uint8_t* GemmTask::Append(Mem mem, uint64_t first, uint64_t words) {
  if (words == 0) return nullptr;
  const uint8_t* bytes = unit.Read(mem, first, words);
  const uint64_t size = words * Memories::word_bytes(mem);
  key_.Add(bytes, size);
  unit.counts.read[static_cast<int>(mem)] += size;
  return bytes;
}

PackedBlock GemmTask::Operands(uint64_t tile) {
  PackedBlock block;
  block.setw = &setw;
  block.geometry = &geometry;
  block.first_filter = first_filter(tile);
  const uint32_t n = block.n_filters = filters(tile);
  key_.Clear();
  key_filters_ = {block.first_filter, n};
  key_.Add(&setw, sizeof(setw));
  key_.Add(key_filters_.data(), sizeof(key_filters_));
  if (static_cast<WMode>(setw.wmode) == WMode::kRaw8) {
    block.codes = Append(Mem::kCode, gemm.code + tile * geometry.taps, geometry.taps);
    return block;
  }
  const uint64_t octet = uint64_t{geometry.slots / 4} * geometry.planes;
  block.codes = Append(Mem::kCode, gemm.code + 2 * tile * octet, (n + 7) / 8 * octet);
  if (static_cast<BasisKind>(setw.basis_kind) == BasisKind::kSlice) {
    const uint64_t words = uint64_t{geometry.slices} * geometry.basis_words;
    block.basis = Append(Mem::kBasis, gemm.basis + tile * kTileFilters * words, n * words);
  } else {
    GatherBases(Append(Mem::kIdx, gemm.ids + tile, 1), n);
    block.basis = scratch.bases.data();
    key_.Add(scratch.bases.data(), scratch.bases.size());
  }
  if (static_cast<WMode>(setw.wmode) == WMode::kShared) {
    const uint64_t first = gemm.m_base / kTileFilters / setw.group_tiles;
    const uint64_t group = (gemm.m_base / kTileFilters + tile) / setw.group_tiles - first;
    block.bitmap =
        Append(Mem::kIdx, gemm.idx + group * geometry.bitmap_words, geometry.bitmap_words);
  }
  return block;
}

/*! \brief Copies the basis of each of n filters, named by its id, next to each other. */
void GemmTask::GatherBases(const uint8_t* ids, uint32_t n) {
  const uint64_t words = geometry.basis_words;
  std::vector<uint8_t>& bases = scratch.bases;
  bases.clear();
  for (uint32_t f = 0; f < n; ++f) {
    const uint8_t* basis = unit.Read(Mem::kBasis, gemm.basis + ids[f] * words, words);
    bases.insert(bases.end(), basis, basis + words * 16);
  }
  unit.counts.read[static_cast<int>(Mem::kBasis)] += bases.size();
}

const int32_t* GemmTask::InitialSums(uint64_t tile) {
  const auto init = static_cast<AccInit>(gemm.acc_init);
  if (init == AccInit::kKeep) return nullptr;
  bias_.fill(0);
  if (init == AccInit::kBias) {
    const uint32_t n = filters(tile);
    const uint8_t* words = unit.Read(Mem::kQp, gemm.qp + tile * kTileFilters, n);
    for (uint32_t f = 0; f < n; ++f) std::memcpy(&bias_[f], words + 16 * f, 4);
    unit.counts.read[static_cast<int>(Mem::kQp)] += 16 * n;
  }
  return bias_.data();
}

void GemmTask::ListSums(uint64_t tile) {
  const bool keep = static_cast<AccInit>(gemm.acc_init) == AccInit::kKeep;
  scratch.sums.resize(pixels());
  uint8_t** to = scratch.sums.data();
  for (uint64_t oy = 0; oy < gemm.n_oy; ++oy) {
    const uint64_t row = gemm.acc + tile * gemm.acc_mb + oy * gemm.acc_oy;
    if (keep) {
      unit.Read(Mem::kAcc, row, gemm.n_ox);
    } else {
      unit.memories.MarkWritten(Mem::kAcc, row, gemm.n_ox);
    }
    uint8_t* word = unit.memories.Word(Mem::kAcc, row);
    for (uint64_t ox = 0; ox < gemm.n_ox; ++ox, word += 64) *to++ = word;
  }
  CheckInput(tile);
}

void GemmTask::ListPixels(const ChannelBlocks& blocks) {
  const uint64_t base = InputBase(blocks);
  const int16_t* input = unit.memories.WidenedInput(base, base + span_, is_signed);
  for (uint64_t block = 1; block < blocks.count; ++block) {
    const uint64_t first = base + block * gemm.inp_cb;
    unit.memories.WidenedInput(first, first + span_, is_signed);
  }
  scratch.pixels.resize(pixels());
  Pixel* pixel = scratch.pixels.data();
  uint8_t* const* acc = scratch.sums.data();
  for (uint64_t oy = 0; oy < gemm.n_oy; ++oy) {
    const int16_t* at = input + (base + oy * gemm.inp_oy) * 16;
    for (uint64_t ox = 0; ox < gemm.n_ox; ++ox, ++pixel, ++acc) {
      pixel->input = at;
      pixel->acc = *acc;
      at += gemm.inp_ox * 16;
    }
  }
}

}  // namespace sd
