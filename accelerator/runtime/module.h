#ifndef SD_RUNTIME_MODULE_H_
#define SD_RUNTIME_MODULE_H_

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/string.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../sim/simulate.h"
#include "../sim/workspace.h"

namespace sd {
namespace runtime {

/*! \brief One compiled layer: its function name, its description and its program. */
struct CompiledLayer {
  std::string name;
  std::string description;  // JSON of the layer
  std::string bytes;        // of the program
  Program program;
};

/*!
 * \brief Compiled layers as a TVM runtime module; calling a function simulates its program.
 *
 * Saved form (little endian): "SDMO", u32 version, then strings, each u64 length and bytes: the
 * configuration; u64 number of layers; for each its name, description and program.
 */
class AcceleratorModule : public tvm::ffi::ModuleObj {
 public:
  AcceleratorModule(const std::string& config_text, std::vector<CompiledLayer> layers);

  const char* kind() const final { return "sd_accel"; }
  int GetPropertyMask() const final {
    return tvm::ffi::Module::kBinarySerializable | tvm::ffi::Module::kRunnable;
  }
  tvm::ffi::Optional<tvm::ffi::Function> GetFunction(const tvm::ffi::String& name) final;
  tvm::ffi::Bytes SaveToBytes() const final;
  tvm::ffi::String InspectSource(const tvm::ffi::String& format) const final;

  /*! \brief Checks everything; throws sd::Error. */
  static tvm::ffi::Module Create(const std::string& config_text, std::vector<CompiledLayer> layers);
  static tvm::ffi::Module Load(const std::string& bytes);

 private:
  const CompiledLayer* Find(const std::string& name) const;
  void Call(const CompiledLayer& layer, tvm::ffi::PackedArgs args);

  Config config_;
  std::vector<CompiledLayer> layers_;
  std::mutex mutex_;  // guards workspace_
  Workspace workspace_;
};

}  // namespace runtime
}  // namespace sd

#endif  // SD_RUNTIME_MODULE_H_
