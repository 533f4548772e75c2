#ifndef SD_SIM_ENERGY_H_
#define SD_SIM_ENERGY_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "config.h"
#include "json.h"

namespace sd {

/*!
 * \brief Things that cost energy: (enumerator, name, price key, component).
 *
 * The price of one event is the configuration's `energy_<price key>_fj`, an integer in fJ.
 */
#define SD_ENERGY_EVENTS(X)                                                               \
  X(kDramReadActivations, "dram_read_activation_bytes", "dram_byte", kDramActivations)    \
  X(kDramWriteActivations, "dram_write_activation_bytes", "dram_byte", kDramActivations)  \
  X(kDramReadWeights, "dram_read_weight_bytes", "dram_byte", kDramWeights)                \
  X(kDramReadInstructions, "dram_read_instruction_bytes", "dram_byte", kDramInstructions) \
  X(kInpRead, "inp_read_bytes", "inp_byte", kSramInp)                                     \
  X(kInpWrite, "inp_write_bytes", "inp_byte", kSramInp)                                   \
  X(kCodeRead, "code_read_bytes", "code_byte", kSramCode)                                 \
  X(kCodeWrite, "code_write_bytes", "code_byte", kSramCode)                               \
  X(kBasisRead, "basis_read_bytes", "basis_byte", kSramBasis)                             \
  X(kBasisWrite, "basis_write_bytes", "basis_byte", kSramBasis)                           \
  X(kIdxRead, "idx_read_bytes", "idx_byte", kSramIdx)                                     \
  X(kIdxWrite, "idx_write_bytes", "idx_byte", kSramIdx)                                   \
  X(kQpRead, "qp_read_bytes", "qp_byte", kSramQp)                                         \
  X(kQpWrite, "qp_write_bytes", "qp_byte", kSramQp)                                       \
  X(kLutRead, "lut_read_bytes", "lut_byte", kSramLut)                                     \
  X(kLutWrite, "lut_write_bytes", "lut_byte", kSramLut)                                   \
  X(kAccRead, "acc_read_bytes", "acc_byte", kAcc)                                         \
  X(kAccWrite, "acc_write_bytes", "acc_byte", kAcc)                                       \
  X(kOutRead, "out_read_bytes", "out_byte", kSramOut)                                     \
  X(kOutWrite, "out_write_bytes", "out_byte", kSramOut)                                   \
  X(kMac8x8, "mac_8x8", "mac_8x8", kMac)                                                  \
  X(kMac8x13, "mac_8x13", "mac_8x13", kMac)                                               \
  X(kBoothDigit, "booth_digits", "booth_digit", kMac)                                     \
  X(kPsum, "psum_updates", "psum", kPsum)                                                 \
  X(kFifo, "fifo_bytes", "fifo_byte", kFifo)                                              \
  X(kPicker, "picker_bytes", "picker_byte", kPicker)                                      \
  X(kShiftAdd, "rebuild_shift_adds", "shift_add", kRebuild)                               \
  X(kAdd32, "alu_adds", "add32", kAlu)                                                    \
  X(kMult32, "alu_mults", "mult32", kAlu)                                                 \
  X(kShift32, "alu_shifts", "shift32", kAlu)                                              \
  X(kMove32, "alu_moves", "move32", kAlu)                                                 \
  X(kRequantise, "requantised_values", "requantise", kRequant)

#define SD_ENERGY_COMPONENTS(X)             \
  X(kDramActivations, "dram_activations")   \
  X(kDramWeights, "dram_weights")           \
  X(kDramInstructions, "dram_instructions") \
  X(kSramInp, "sram_inp")                   \
  X(kSramCode, "sram_code")                 \
  X(kSramBasis, "sram_basis")               \
  X(kSramIdx, "sram_idx")                   \
  X(kSramQp, "sram_qp")                     \
  X(kSramLut, "sram_lut")                   \
  X(kSramOut, "sram_out")                   \
  X(kAcc, "acc")                            \
  X(kMac, "mac")                            \
  X(kPsum, "psum")                          \
  X(kFifo, "fifo")                          \
  X(kPicker, "picker")                      \
  X(kRebuild, "rebuild")                    \
  X(kAlu, "alu")                            \
  X(kRequant, "requant")

/*! \brief Kinds of energy events. */
enum class EnergyEvent : uint8_t {
#define X(id, name, price, component) id,
  SD_ENERGY_EVENTS(X)
#undef X
      kCount
};
constexpr int kNumEnergyEvent = static_cast<int>(EnergyEvent::kCount);

/*! \brief Parts of the accelerator that energy is attributed to. */
enum class Component : uint8_t {
#define X(id, name) id,
  SD_ENERGY_COMPONENTS(X)
#undef X
      kCount
};
constexpr int kNumComponent = static_cast<int>(Component::kCount);

/*! \brief Events of one instruction: a short list, an event may stand in it twice. */
class EventList {
 public:
  void Add(EnergyEvent event, uint64_t count);
  const std::pair<EnergyEvent, uint64_t>* begin() const { return items_.data(); }
  const std::pair<EnergyEvent, uint64_t>* end() const { return items_.data() + size_; }

 private:
  static constexpr size_t kCapacity = 20;  // no instruction has more
  std::array<std::pair<EnergyEvent, uint64_t>, kCapacity> items_;
  size_t size_ = 0;
};

/*! \brief How often each event happened. */
class EventCounts {
 public:
  void Add(EnergyEvent event, uint64_t count);
  void Add(const EventList& events) {
    for (const auto& [event, count] : events) Add(event, count);
  }
  void Add(const EventCounts& other);
  uint64_t operator[](EnergyEvent event) const { return counts_[static_cast<int>(event)]; }

 private:
  std::array<uint64_t, kNumEnergyEvent> counts_{};
};

/*! \brief Energy by component in fJ; `total` is their exact sum. */
struct EnergyBreakdown {
  std::array<uint64_t, kNumComponent> fj{};
  uint64_t total = 0;
};

/*! \brief Adds keys energy_fj and energy_total_fj to an open JSON object. */
void WriteEnergy(const EnergyBreakdown& energy, JsonWriter* json);

/*! \brief fJ of each event. */
class EnergyPrices {
 public:
  /*! \brief Reads the prices; throws ConfigError if one is missing or negative. */
  static EnergyPrices From(const Config& config);
  EnergyBreakdown Price(const EventCounts& counts) const;

 private:
  std::array<uint64_t, kNumEnergyEvent> fj_{};
};

/*! \brief Whether a key of a configuration is the price of an event. */
bool IsEnergyKey(const std::string& key);
const char* EventName(EnergyEvent event);
const char* ComponentName(Component component);
/*! \brief Event of reading or writing a memory. */
EnergyEvent MemoryEvent(isa::Mem mem, bool write);

}  // namespace sd

#endif  // SD_SIM_ENERGY_H_
