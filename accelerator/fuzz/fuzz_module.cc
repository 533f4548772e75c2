// Loads arbitrary bytes as a saved module, as `load_from_bytes.sd_accel` does: an error of ours or
// a module that saves to the same bytes and whose functions run.
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/module.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "../runtime/module.h"
#include "../runtime/profiler.h"
#include "../sim/error.h"
#include "mutate.h"
#include "work.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

namespace ffi = tvm::ffi;
using sd::fuzz::Bytes;
using sd::fuzz::Random;
using sd::runtime::AcceleratorModule;

constexpr uint64_t kMaxSegmentBytes = 1 << 16;
constexpr size_t kHead = 8;          // magic, version
constexpr size_t kMaxFunctions = 4;  // that are called

struct Reached {
  size_t runs = 0, loaded = 0, called = 0, finished = 0;
  ~Reached() {
    std::fprintf(stderr, "reached: runs=%zu loaded=%zu called=%zu finished=%zu\n", runs, loaded,
                 called, finished);
  }
};
Reached reached;

void Check(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "property violated: %s\n", what);
  std::abort();
}

uint64_t ReadInt(const uint8_t* from) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value |= uint64_t{from[i]} << (8 * i);
  return value;
}

void AppendInt(Bytes* out, uint64_t value) {
  for (int i = 0; i < 8; ++i) out->push_back(static_cast<uint8_t>(value >> (8 * i)));
}

/*! \brief Pieces of a saved module: strings, of which every third from the second on is a program.
 */
struct ModuleParts {
  Bytes head;
  std::string config;
  std::vector<std::string> strings;  // name, description, program of each function

  static std::optional<ModuleParts> Parse(const uint8_t* data, size_t size) {
    ModuleParts parts;
    if (size < kHead) return std::nullopt;
    parts.head.assign(data, data + kHead);
    size_t at = kHead;
    const auto read = [&](std::string* out) {
      if (size - at < 8) return false;
      const uint64_t n = ReadInt(data + at);
      at += 8;
      if (n > size - at) return false;
      out->assign(reinterpret_cast<const char*>(data + at), n);
      at += n;
      return true;
    };
    if (!read(&parts.config) || size - at < 8) return std::nullopt;
    const uint64_t n = ReadInt(data + at);
    at += 8;
    for (uint64_t i = 0; i < n; ++i) {
      for (int j = 0; j < 3; ++j) {
        parts.strings.emplace_back();
        if (!read(&parts.strings.back())) return std::nullopt;
      }
    }
    return at == size ? std::optional<ModuleParts>(std::move(parts)) : std::nullopt;
  }

  Bytes Serialise() const {
    Bytes out = head;
    AppendInt(&out, config.size());
    out.insert(out.end(), config.begin(), config.end());
    AppendInt(&out, strings.size() / 3);
    for (const std::string& s : strings) {
      AppendInt(&out, s.size());
      out.insert(out.end(), s.begin(), s.end());
    }
    return out;
  }
};

void Call(const ffi::Module& module, const std::string& name, const std::string& program_bytes) {
  const auto function = module->GetFunction(name);
  Check(function.has_value(), "every name has a function");
  const sd::Program program = sd::Program::Parse(
      reinterpret_cast<const uint8_t*>(program_bytes.data()), program_bytes.size());
  if (sd::fuzz::Work(program, nullptr) > sd::fuzz::kMaxProgramWork) return;
  if (program.segment_bytes.size() > 64) return;
  std::vector<Bytes> data;
  for (const uint64_t n : program.segment_bytes) {
    if (n > kMaxSegmentBytes) return;
    data.emplace_back(n, 1);
  }
  std::vector<int64_t> shapes(data.size());
  std::vector<DLTensor> tensors(data.size());
  std::vector<ffi::AnyView> args;
  for (size_t i = 0; i < data.size(); ++i) {
    shapes[i] = static_cast<int64_t>(data[i].size());
    tensors[i] = DLTensor{
        data[i].data(), DLDevice{kDLCPU, 0}, 1, DLDataType{kDLUInt, 8, 1}, &shapes[i], nullptr, 0};
    args.emplace_back(&tensors[i]);
  }
  ++reached.called;
  ffi::Any result;
  try {
    (*function).CallPacked(args.data(), static_cast<int32_t>(args.size()), &result);
    ++reached.finished;
  } catch (const ffi::Error& error) {
    Check(std::strncmp(error.kind().data(), "sd_tvm.", 7) == 0,
          "an error of a call is one of ours");
  }
}

void Run(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const ffi::Module module = AcceleratorModule::Load(bytes);
  ++reached.loaded;
  const ffi::Bytes saved = module->SaveToBytes();
  const ffi::Bytes again =
      AcceleratorModule::Load(std::string(saved.data(), saved.size()))->SaveToBytes();
  Check(saved.size() == again.size() &&
            std::equal(saved.data(), saved.data() + saved.size(), again.data()),
        "what was saved loads and saves to the same bytes");
  module->InspectSource("");
  const auto parts = ModuleParts::Parse(data, size);
  Check(parts.has_value(), "the fuzzer reads what the loader reads");
  auto& profiler = sd::runtime::Profiler::Global();
  profiler.Start("", "functional");
  for (size_t i = 0; i + 2 < parts->strings.size() && i < 3 * kMaxFunctions; i += 3) {
    Call(module, parts->strings[i], parts->strings[i + 2]);
  }
  profiler.Stop();
}

/*! \brief As bytes of a string that may become empty. */
void RawMutateString(Random& random, std::string* s) {
  (void)random;
  Bytes bytes(s->begin(), s->end());
  bytes.resize(s->size() + 32);
  bytes.resize(LLVMFuzzerMutate(bytes.data(), s->size(), bytes.size()));
  s->assign(bytes.begin(), bytes.end());
}

void MutateParts(Random& random, size_t max_size, ModuleParts* parts) {
  using sd::fuzz::Below;
  auto& strings = parts->strings;
  const size_t n = strings.size() / 3;
  switch (Below(random, 12)) {
    case 0:
      sd::fuzz::MutateConfig(random, &parts->config);
      break;
    case 1:
      RawMutateString(random, &parts->config);
      break;
    case 2:
      parts->head[Below(random, kHead)] ^= static_cast<uint8_t>(1U << Below(random, 8));
      break;
    case 3:
      if (n > 0) RawMutateString(random, &strings[3 * Below(random, n) + Below(random, 2)]);
      break;
    case 4: {  // one function more
      const Bytes program = sd::fuzz::Generate(random).Serialise();
      strings.push_back("f" + std::to_string(Below(random, 8)));
      strings.emplace_back("[]");
      strings.emplace_back(program.begin(), program.end());
      break;
    }
    case 5:
      if (n > 1) strings.resize(3 * (n - 1));
      break;
    default: {
      if (n == 0) break;
      std::string& s = strings[3 * Below(random, n) + 2];
      Bytes program(s.begin(), s.end());
      sd::fuzz::MutateProgramBytes(random, LLVMFuzzerMutate, max_size / 2, &program);
      s.assign(program.begin(), program.end());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ++reached.runs;
  try {
    Run(data, size);
  } catch (const sd::Error& error) {
    Check(error.what()[0] != '\0', "an error says something");
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  Random random(seed);
  std::optional<ModuleParts> parts = ModuleParts::Parse(data, size);
  if (!parts || sd::fuzz::OneIn(random, 20)) return LLVMFuzzerMutate(data, size, max_size);
  MutateParts(random, max_size, &*parts);
  const Bytes bytes = parts->Serialise();
  if (bytes.size() > max_size) return size;
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}
