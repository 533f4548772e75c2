#include "step_table.h"

#include <algorithm>
#include <tuple>

#include "checked.h"
#include "kernels.h"

namespace sd {
namespace {

constexpr uint64_t kMaxStored = 1 << 20;  // bytes; real layers take a tenth of it

/*! \brief The larger of each two bytes. */
void Raise(uint8_t* to, const uint8_t* from, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = std::max(to[i], from[i]);
}

/*! \brief n bytes, `stride` apart. */
void TakeEvery(const uint8_t* from, size_t stride, size_t n, uint8_t* to) {
  for (size_t i = 0; i < n; ++i) to[i] = from[i * stride];
}

}  // namespace

bool StepShape::operator==(const StepShape& other) const {
  const auto fields = [](const StepShape& s) {
    return std::tie(s.kind, s.is_signed, s.inp_version, s.block_words, s.first_lane, s.channels,
                    s.chunk, s.steps, s.fold, s.n_oy, s.n_ox, s.inp_oy, s.inp_ox, s.taps,
                    s.tap_stride, s.floor, s.plane_words);
  };
  return fields(*this) == fields(other);
}

void StepTable::Make(const StepShape& shape, const Memories& memories) {
  if (stored_ && shape == shape_) return;
  ++version_;
  const bool same_places = shape.n_oy == shape_.n_oy && shape.inp_oy == shape_.inp_oy &&
                           shape.plane_words == shape_.plane_words;
  shape_ = shape;
  planes_ = shape.planes();
  columns_ = shape.columns();
  groups_ = static_cast<uint32_t>(CeilDiv(shape.n_ox, uint64_t{machine_.f_lanes} * shape.fold));
  const bool passes = shape.kind == StepShape::Kind::kPasses;
  tables_ = machine_.sync == SyncDomain::kArray && !passes ? shape.steps : 1;
  idle_ = machine_.skip_zero_vectors ? 0 : 1;
  if (!same_places) ListOrigins();
  UpdateInput(memories);
  const size_t lanes = shape.block_words.size() * 16;
  const size_t chunked =
      shape.kind == StepShape::Kind::kChunks ? size_t{columns_} * shape.chunk : 0;
  lane_padding_ = std::max<size_t>(chunked, shape.channels) - shape.channels;
  most_.resize(lanes + lane_padding_ + kChunkPadding);
  part_.resize(line_bytes());
  sums_.resize(lanes + lane_padding_);
  CountDigits();
  const uint64_t entries = uint64_t{origins_.size()} * groups_;
  stored_ = entries * (passes ? sizeof(PassCycles) : line_bytes()) <= kMaxStored;
  if (!stored_) return;
  if (passes) {
    passes_.resize(entries);
  } else {
    lines_.resize(entries * line_bytes() + kRunPadding);
  }
  size_t entry = 0;
  for (const uint64_t origin : origins_) {
    for (uint32_t group = 0; group < groups_; ++group, ++entry) {
      if (passes) {
        passes_[entry] = EvaluatePasses(origin, group);
      } else {
        Evaluate(origin, group, lines_.data() + entry * line_bytes());
      }
    }
  }
}

void StepTable::ListOrigins() {
  uses_.clear();
  for (uint32_t oy = 0; oy < shape_.n_oy; ++oy) {
    for (uint32_t p = 0; p < planes_; ++p) {
      uses_.emplace_back(oy * shape_.inp_oy + shape_.plane_words[p], oy * planes_ + p);
    }
  }
  std::sort(uses_.begin(), uses_.end());
  origins_.clear();
  origin_of_.resize(uses_.size());
  for (const auto& [origin, use] : uses_) {
    if (origins_.empty() || origins_.back() != origin) origins_.push_back(origin);
    origin_of_[use] = static_cast<uint32_t>(origins_.size() - 1);
  }
}

void StepTable::UpdateInput(const Memories& memories) {
  const uint64_t span =
      origins_.back() + (shape_.n_ox - 1) * shape_.inp_ox + (shape_.taps - 1) * shape_.tap_stride;
  for (const uint64_t word : shape_.block_words) {
    input_ = memories.InputDigits(word, word + span, shape_.is_signed);
  }
}

void StepTable::CountDigits() {
  const bool passes = shape_.kind == StepShape::Kind::kPasses;
  row_digits_.assign(passes ? 0 : size_t{planes_} * columns_, 0);
  digits_ = 0;
  const uint64_t* last = nullptr;
  uint64_t total = 0;
  for (const auto& [origin, use] : uses_) {
    if (last == nullptr || *last != origin) {
      SumChannels(origin);
      last = &origin;
      total = 0;
      const uint32_t* sums = sums_.data() + shape_.first_lane;
      for (uint32_t c = 0; c < shape_.channels; ++c) total += sums[c];
    }
    digits_ += total;
    if (!passes) AddRowDigits(row_digits_.data() + size_t{use % planes_} * columns_);
  }
}

/*! \brief Digits of each lane over a row of pixels. */
void StepTable::SumChannels(uint64_t origin) {
  std::fill(sums_.begin(), sums_.end(), 0);
  for (size_t block = 0; block < shape_.block_words.size(); ++block) {
    for (uint32_t tap = 0; tap < shape_.taps; ++tap) {
      Kernels().sum(Input(block, origin + tap * shape_.tap_stride), shape_.n_ox, shape_.inp_ox * 16,
                    sums_.data() + block * 16);
    }
  }
  // Channels of another group.
  std::fill(sums_.begin() + shape_.first_lane + shape_.channels, sums_.end(), 0);
}

void StepTable::AddRowDigits(uint32_t* to) const {
  const uint32_t* sums = sums_.data() + shape_.first_lane;
  const uint32_t chunk = shape_.kind == StepShape::Kind::kChunks ? shape_.chunk : 1;
  if (chunk == 1) {
    for (uint32_t c = 0; c < columns_; ++c) to[c] += sums[c];
    return;
  }
  for (uint32_t c = 0; c < columns_; ++c, sums += chunk) {
    for (uint32_t t = 0; t < chunk; ++t) to[c] += sums[t];
  }
}

/*! \brief Line of an input and a group of pixels: of each part of a fold the slowest. */
void StepTable::Evaluate(uint64_t origin, uint32_t group, uint8_t* to) {
  const bool lanes = machine_.sync == SyncDomain::kLane && shape_.steps > 1;
  for (uint32_t i = 0; i < shape_.fold; ++i) {
    const uint64_t ox = (uint64_t{group} * shape_.fold + i) * machine_.f_lanes;
    if (ox >= shape_.n_ox) break;
    const auto pixels =
        static_cast<uint32_t>(std::min<uint64_t>(machine_.f_lanes, shape_.n_ox - ox));
    uint8_t* line = i == 0 ? to : part_.data();
    const uint64_t word = origin + ox * shape_.inp_ox;
    if (lanes) {
      EvaluateLanes(word, pixels, line);
    } else {
      EvaluatePixels(word, pixels, line);
    }
    if (i != 0) Raise(to, line, line_bytes());
  }
}

/*! \brief Most digits of each lane. */
void StepTable::ListMost(uint64_t word, uint32_t pixels) {
  for (size_t block = 0; block < shape_.block_words.size(); ++block) {
    Kernels().most(Input(block, word), pixels, shape_.inp_ox * 16, most_.data() + block * 16);
  }
}

void StepTable::EvaluatePixels(uint64_t word, uint32_t pixels, uint8_t* to) {
  const uint8_t idle = idle_;  // stores of bytes might change members, as far as compilers know
  uint8_t* steps = most_.data() + shape_.first_lane;
  const size_t channels = shape_.channels;
  const size_t padding = lane_padding_;
  for (uint32_t tap = 0; tap < shape_.taps; ++tap) {
    ListMost(word + tap * shape_.tap_stride, pixels);
    if (idle != 0) {
      for (size_t c = 0; c < channels; ++c) steps[c] = std::max(steps[c], idle);
    }
    std::fill_n(steps + channels, padding, idle);
    AddSteps(steps, tap, to);
  }
}

/*! \brief Lanes run free within a row: the sum of each pixel's steps, then the slowest pixel. */
void StepTable::EvaluateLanes(uint64_t word, uint32_t pixels, uint8_t* to) {
  pixels_.resize(pixels * line_bytes());
  steps_.assign(shape_.channels + lane_padding_ + kChunkPadding, idle_);
  for (uint32_t tap = 0; tap < shape_.taps; ++tap) {
    const uint64_t first = word + tap * shape_.tap_stride;
    ListMost(first, pixels);
    for (uint32_t f = 0; f < pixels; ++f) {
      for (uint32_t c = 0; c < shape_.channels; ++c) {
        const uint32_t lane = shape_.first_lane + c;
        const uint8_t digits = Input(lane / 16, first + f * shape_.inp_ox)[lane % 16];
        steps_[c] = most_[lane] == 0 ? idle_ : std::max<uint8_t>(1, digits);
      }
      AddSteps(steps_.data(), tap, pixels_.data() + f * line_bytes());
    }
  }
  std::fill_n(to, line_bytes(), uint8_t{0});
  for (uint32_t f = 0; f < pixels; ++f) Raise(to, pixels_.data() + f * line_bytes(), line_bytes());
}

/*! \brief Cycles of the channels' steps to those of rows; taps come one after the other. */
void StepTable::AddSteps(const uint8_t* steps, uint32_t tap, uint8_t* to) const {
  const bool apart = tables_ > 1;
  const size_t columns = columns_;
  switch (shape_.kind) {
    case StepShape::Kind::kTaps:
      if (apart || tap == 0) {
        std::copy_n(steps, columns, to + (apart ? tap * columns : 0));
      } else {
        for (size_t c = 0; c < columns; ++c) to[c] = static_cast<uint8_t>(to[c] + steps[c]);
      }
      break;
    case StepShape::Kind::kChunks:
      if (apart) {
        for (size_t t = 0; t < shape_.chunk; ++t) {
          TakeEvery(steps + t, shape_.chunk, columns, to + t * columns);
        }
      } else {
        Kernels().chunk_sums(steps, shape_.chunk, columns, to);
      }
      break;
    case StepShape::Kind::kAlone: {
      const auto rest = static_cast<uint8_t>(apart ? 0 : (shape_.steps - 1) * idle_);
      for (size_t c = 0; c < columns; ++c) to[c] = static_cast<uint8_t>(steps[c] + rest);
      std::fill_n(to + columns, line_bytes() - columns, idle_);
      break;
    }
    case StepShape::Kind::kPasses:
      break;
  }
}

PassCycles StepTable::EvaluatePasses(uint64_t origin, uint32_t group) {
  // With one step a row, the slowest of all lanes is the slowest of all parts of a fold.
  const uint64_t width = uint64_t{machine_.f_lanes} * shape_.fold;
  const uint64_t ox = group * width;
  ListMost(origin + ox * shape_.inp_ox, static_cast<uint32_t>(std::min(width, shape_.n_ox - ox)));
  PassCycles out;
  const uint8_t* most = most_.data() + shape_.first_lane;
  for (uint32_t c = 0; c < shape_.channels; c += shape_.chunk) {
    const uint32_t last = std::min(shape_.channels, c + shape_.chunk);
    uint8_t cycles = idle_;
    for (uint32_t k = c; k < last; ++k) cycles = std::max(cycles, most[k]);
    if (cycles >= shape_.floor) {
      out.long_cycles += cycles;
    } else {
      ++out.short_passes;
    }
  }
  return out;
}

const uint8_t* const* StepTable::Lines(uint32_t oy, uint32_t n, uint32_t group) {
  const size_t first = size_t{oy} * planes_;
  const size_t count = size_t{n} * planes_;
  pointers_.resize(count);
  if (!stored_) lines_.resize(std::max(lines_.size(), count * line_bytes() + kRunPadding));
  for (size_t i = 0; i < count; ++i) {
    const uint32_t origin = origin_of_[first + i];
    if (stored_) {
      pointers_[i] = lines_.data() + (size_t{origin} * groups_ + group) * line_bytes();
    } else {
      uint8_t* line = lines_.data() + i * line_bytes();
      Evaluate(origins_[origin], group, line);
      pointers_[i] = line;
    }
  }
  return pointers_.data();
}

PassCycles StepTable::Passes(uint32_t oy, uint32_t group) {
  PassCycles out;
  const uint32_t* origin = origin_of_.data() + size_t{oy} * planes_;
  for (uint32_t p = 0; p < planes_; ++p) {
    const PassCycles cycles = stored_ ? passes_[size_t{origin[p]} * groups_ + group]
                                      : EvaluatePasses(origins_[origin[p]], group);
    out.long_cycles += cycles.long_cycles;
    out.short_passes += cycles.short_passes;
  }
  return out;
}

}  // namespace sd
