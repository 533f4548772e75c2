#include "module.h"

#include <tvm/ffi/cast.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/memory.h>

#include <sstream>
#include <utility>

#include "../sim/error.h"
#include "operands.h"
#include "profiler.h"

namespace sd {
namespace runtime {
namespace {

namespace ffi = tvm::ffi;

constexpr char kMagic[] = "SDMO";
constexpr uint32_t kVersion = 2;

void AppendInt(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i) & 255));
}

void AppendString(std::string* out, const std::string& value) {
  AppendInt(out, value.size(), 8);
  *out += value;
}

/*! \brief Reads the saved form; throws ProgramError where the bytes end too early. */
class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}

  uint64_t Int(int size) {
    const std::string raw = Raw(static_cast<uint64_t>(size));
    uint64_t value = 0;
    for (int i = 0; i < size; ++i) value |= uint64_t{static_cast<uint8_t>(raw[i])} << (8 * i);
    return value;
  }
  std::string String() { return Raw(Int(8)); }
  std::string Raw(uint64_t size) {
    if (size > bytes_.size() - at_) {
      throw ProgramError("a saved sd_accel module ends at byte " + std::to_string(bytes_.size()) +
                         " where " + std::to_string(size) + " bytes from " + std::to_string(at_) +
                         " should stand. What to do: export the model again.");
    }
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  bool done() const { return at_ == bytes_.size(); }

 private:
  const std::string& bytes_;
  uint64_t at_ = 0;
};

/*! \brief JSON array of layer records, from an array or from one record. */
std::string LayerArray(const std::string& name, const std::string& json) {
  const size_t first = json.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && json[first] == '[') return json;
  if (first != std::string::npos && json[first] == '{') return "[" + json + "]";
  throw ProgramError("the layers of '" + name + "' are '" + json.substr(0, 40) +
                     "'. Expected: a JSON array of layer records.");
}

}  // namespace

AcceleratorModule::AcceleratorModule(const std::string& config_text,
                                     std::vector<CompiledRegion> regions)
    : config_(Config::Parse(config_text)), regions_(std::move(regions)) {}

ffi::Module AcceleratorModule::Create(const std::string& config_text,
                                      std::vector<CompiledRegion> regions) {
  const Config config = Config::Parse(config_text);
  for (size_t i = 0; i < regions.size(); ++i) {
    CompiledRegion& region = regions[i];
    for (size_t j = 0; j < i; ++j) {
      if (regions[j].name == region.name) {
        throw ProgramError("two functions are named '" + region.name +
                           "'. Expected: unique names.");
      }
    }
    region.layers = LayerArray(region.name, region.layers);
    region.program =
        Program::Parse(reinterpret_cast<const uint8_t*>(region.bytes.data()), region.bytes.size());
    region.program.CheckFits(config);
  }
  return ffi::Module(ffi::make_object<AcceleratorModule>(config_text, std::move(regions)));
}

const CompiledRegion* AcceleratorModule::Find(const std::string& name) const {
  for (const CompiledRegion& region : regions_) {
    if (region.name == name) return &region;
  }
  return nullptr;
}

ffi::Optional<ffi::Function> AcceleratorModule::GetFunction(const ffi::String& name) {
  const CompiledRegion* region = Find(name);
  if (region == nullptr) return std::nullopt;
  // The function keeps the module alive.
  auto self = ffi::GetObjectPtr<AcceleratorModule>(this);
  return ffi::Function::FromPacked([self, region](ffi::PackedArgs args, ffi::Any* result) {
    Guard([&] { self->Call(*region, args); });
    *result = nullptr;
  });
}

void AcceleratorModule::Call(const CompiledRegion& region, ffi::PackedArgs args) {
  std::vector<Segment> segments;
  for (int i = 0; i < args.size(); ++i) {
    const std::string what = region.name + ": operand " + std::to_string(i);
    const auto tensor = args[i].try_cast<DLTensor*>();
    if (!tensor.has_value()) throw ProgramError(what + " is no tensor. Expected: a tensor.");
    segments.push_back(SegmentOf(**tensor, what));
  }
  const SessionOptions options = Profiler::Global().options();
  const Config& config = options.config == nullptr ? config_ : *options.config;
  RunResult result;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    result = Simulate(region.program, config, segments, options.mode, &workspace_);
  }
  Profiler::Global().Record(region.name, region.layers, result);
}

ffi::Bytes AcceleratorModule::SaveToBytes() const {
  std::string out(kMagic, 4);
  AppendInt(&out, kVersion, 4);
  AppendString(&out, config_.text());
  AppendInt(&out, regions_.size(), 8);
  for (const CompiledRegion& region : regions_) {
    AppendString(&out, region.name);
    AppendString(&out, region.layers);
    AppendString(&out, region.bytes);
  }
  return ffi::Bytes(std::move(out));
}

ffi::Module AcceleratorModule::Load(const std::string& bytes) {
  Reader reader(bytes);
  if (reader.Raw(4) != std::string(kMagic, 4)) {
    throw ProgramError(
        "a saved sd_accel module does not start with 'SDMO'. What to do: export the "
        "model again.");
  }
  const uint64_t version = reader.Int(4);
  if (version != kVersion) {
    throw ProgramError("a saved sd_accel module has version " + std::to_string(version) +
                       ". Expected: " + std::to_string(kVersion) +
                       ". What to do: export the model again with this version of sd-tvm.");
  }
  const std::string config_text = reader.String();
  const uint64_t n = reader.Int(8);
  std::vector<CompiledRegion> regions;
  for (uint64_t i = 0; i < n; ++i) {
    CompiledRegion region;
    region.name = reader.String();
    region.layers = reader.String();
    region.bytes = reader.String();
    regions.push_back(std::move(region));
  }
  if (!reader.done()) {
    throw ProgramError(
        "a saved sd_accel module has trailing bytes. What to do: export the model "
        "again.");
  }
  return Create(config_text, std::move(regions));
}

ffi::String AcceleratorModule::InspectSource(const ffi::String& format) const {
  (void)format;
  std::ostringstream out;
  out << "sd_accel module, instruction set version " << isa::kVersion << ", " << regions_.size()
      << " functions\n";
  for (const CompiledRegion& region : regions_) {
    out << region.name << ": " << region.program.instructions.size() << " instructions, "
        << region.program.segment_bytes.size() << " operands, words";
    for (int i = 0; i < isa::kNumMem; ++i) {
      if (region.program.required_words[i] == 0) continue;
      out << " " << isa::kMemories[i].name << "=" << region.program.required_words[i];
    }
    out << "\n  " << region.layers << "\n";
  }
  return out.str();
}

}  // namespace runtime
}  // namespace sd
