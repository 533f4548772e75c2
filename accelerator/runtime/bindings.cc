// Global functions "sd_accel.*" and the loader of saved modules.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <string>
#include <utility>
#include <vector>

#include "../sim/error.h"
#include "../sim/simulate.h"
#include "module.h"
#include "operands.h"
#include "profiler.h"

namespace sd {
namespace runtime {
namespace {

namespace ffi = tvm::ffi;

ffi::String Run(const ffi::Bytes& bytes, const ffi::String& config_text, const ffi::String& mode,
                const ffi::Array<ffi::Tensor>& tensors) {
  return Guard([&] {
    const Program program =
        Program::Parse(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    std::vector<Segment> segments;
    for (const ffi::Tensor& tensor : tensors) {
      segments.push_back(
          SegmentOf(*tensor.GetDLTensorPtr(), "operand " + std::to_string(segments.size())));
    }
    return ffi::String(
        Simulate(program, Config::Parse(config_text), segments, ParseMode(mode), nullptr).json);
  });
}

ffi::Module CreateModule(const ffi::String& config_text, const ffi::Array<ffi::String>& names,
                         const ffi::Array<ffi::String>& layers,
                         const ffi::Array<ffi::Bytes>& programs) {
  return Guard([&] {
    if (names.size() != layers.size() || names.size() != programs.size()) {
      throw ProgramError(std::to_string(names.size()) + " names, " + std::to_string(layers.size()) +
                         " layers and " + std::to_string(programs.size()) +
                         " programs. Expected: as many of each.");
    }
    std::vector<CompiledRegion> compiled(names.size());
    for (size_t i = 0; i < compiled.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      compiled[i].name = std::string(names[at]);
      compiled[i].layers = std::string(layers[at]);
      compiled[i].bytes = std::string(programs[at].data(), programs[at].size());
    }
    return AcceleratorModule::Create(config_text, std::move(compiled));
  });
}

ffi::String ModuleConfig(const ffi::Module& module) {
  return Guard([&] {
    const auto* ours = dynamic_cast<const AcceleratorModule*>(module.operator->());
    if (ours == nullptr) {
      throw ProgramError("a module of kind '" + std::string(module->kind()) +
                         "' has no configuration. Expected: a module of kind 'sd_accel'.");
    }
    return ffi::String(ours->config_text());
  });
}

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("sd_accel.isa_version", []() { return static_cast<int64_t>(isa::kVersion); })
      .def("sd_accel.run", Run)
      .def("sd_accel.create_module", CreateModule)
      .def("sd_accel.save_module", [](const ffi::Module& module) { return module->SaveToBytes(); })
      .def("sd_accel.profiler_start",
           [](const ffi::String& config_text, const ffi::String& mode) {
             Guard([&] { Profiler::Global().Start(config_text, mode); });
           })
      .def("sd_accel.module_config", ModuleConfig)
      .def("sd_accel.profiler_totals",
           []() { return Guard([] { return ffi::String(Profiler::Global().TotalsText()); }); })
      .def("sd_accel.profiler_stop",
           []() { return Guard([] { return ffi::String(Profiler::Global().Stop()); }); })
      .def("ffi.Module.load_from_bytes.sd_accel", [](const ffi::Bytes& bytes) {
        return Guard(
            [&] { return AcceleratorModule::Load(std::string(bytes.data(), bytes.size())); });
      });
}

}  // namespace
}  // namespace runtime
}  // namespace sd
