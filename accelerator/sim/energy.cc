#include "energy.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>

#include "checked.h"

namespace sd {
namespace {

struct EventInfo {
  const char* name;
  const char* price;
  Component component;
};

constexpr EventInfo kEvents[kNumEnergyEvent] = {
#define X(id, name, price, component) {name, price, Component::component},
    SD_ENERGY_EVENTS(X)
#undef X
};

constexpr const char* kComponents[kNumComponent] = {
#define X(id, name) name,
    SD_ENERGY_COMPONENTS(X)
#undef X
};

constexpr int64_t kMaxPrice = int64_t{1} << 40;

std::string PriceKey(const EventInfo& event) {
  return std::string("energy_") + event.price + "_fj";
}

}  // namespace

void EventList::Add(EnergyEvent event, uint64_t count) {
  if (count == 0) return;
  if (size_ == kCapacity) throw std::logic_error("an instruction has too many kinds of events");
  items_[size_++] = {event, count};
}

void EventCounts::Add(EnergyEvent event, uint64_t count) {
  AddTo(&counts_[static_cast<int>(event)], count);
}

void EventCounts::Add(const EventCounts& other) {
  for (int i = 0; i < kNumEnergyEvent; ++i) {
    if (other.counts_[i] != 0) AddTo(&counts_[i], other.counts_[i]);
  }
}

EnergyPrices EnergyPrices::From(const Config& config) {
  EnergyPrices prices;
  for (int i = 0; i < kNumEnergyEvent; ++i) {
    prices.fj_[i] = static_cast<uint64_t>(config.Get(PriceKey(kEvents[i]), 0, kMaxPrice));
  }
  return prices;
}

EnergyBreakdown EnergyPrices::Price(const EventCounts& counts) const {
  EnergyBreakdown out;
  for (int i = 0; i < kNumEnergyEvent; ++i) {
    const uint64_t fj = Product({counts[static_cast<EnergyEvent>(i)], fj_[i]});
    AddTo(&out.fj[static_cast<int>(kEvents[i].component)], fj);
    AddTo(&out.total, fj);
  }
  return out;
}

void WriteEnergy(const EnergyBreakdown& energy, JsonWriter* json) {
  json->Key("energy_fj").BeginObject();
  for (int i = 0; i < kNumComponent; ++i) json->Key(kComponents[i]).Uint(energy.fj[i]);
  json->EndObject();
  json->Key("energy_total_fj").Uint(energy.total);
}

bool IsEnergyKey(const std::string& key) {
  return std::any_of(std::begin(kEvents), std::end(kEvents),
                     [&](const EventInfo& event) { return PriceKey(event) == key; });
}

const char* EventName(EnergyEvent event) { return kEvents[static_cast<int>(event)].name; }

const char* ComponentName(Component component) { return kComponents[static_cast<int>(component)]; }

EnergyEvent MemoryEvent(isa::Mem mem, bool write) {
  switch (mem) {
    case isa::Mem::kInp:
      return write ? EnergyEvent::kInpWrite : EnergyEvent::kInpRead;
    case isa::Mem::kCode:
      return write ? EnergyEvent::kCodeWrite : EnergyEvent::kCodeRead;
    case isa::Mem::kBasis:
      return write ? EnergyEvent::kBasisWrite : EnergyEvent::kBasisRead;
    case isa::Mem::kIdx:
      return write ? EnergyEvent::kIdxWrite : EnergyEvent::kIdxRead;
    case isa::Mem::kQp:
      return write ? EnergyEvent::kQpWrite : EnergyEvent::kQpRead;
    case isa::Mem::kLut:
      return write ? EnergyEvent::kLutWrite : EnergyEvent::kLutRead;
    case isa::Mem::kAcc:
      return write ? EnergyEvent::kAccWrite : EnergyEvent::kAccRead;
    case isa::Mem::kOut:
      break;
  }
  return write ? EnergyEvent::kOutWrite : EnergyEvent::kOutRead;
}

}  // namespace sd
