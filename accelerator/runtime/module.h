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

/*! \brief One function: its name, the layers of its region and its program. */
struct CompiledRegion {
  std::string name;
  std::string layers;  // JSON array of layer records
  std::string bytes;   // of the program
  Program program;
};

/*!
 * \brief Compiled regions of layers as a TVM runtime module; calling a function simulates its
 * program on the arguments: inputs, then results.
 *
 * Saved form (little endian): "SDMO", u32 version, then strings, each u64 length and bytes: the
 * configuration; u64 number of functions; for each its name, layers and program.
 */
class AcceleratorModule : public tvm::ffi::ModuleObj {
 public:
  AcceleratorModule(const std::string& config_text, std::vector<CompiledRegion> regions);

  const char* kind() const final { return "sd_accel"; }
  int GetPropertyMask() const final {
    return tvm::ffi::Module::kBinarySerializable | tvm::ffi::Module::kRunnable;
  }
  tvm::ffi::Optional<tvm::ffi::Function> GetFunction(const tvm::ffi::String& name) final;
  tvm::ffi::Bytes SaveToBytes() const final;
  tvm::ffi::String InspectSource(const tvm::ffi::String& format) const final;

  /*! \brief Text of the configuration that it was compiled for. */
  const std::string& config_text() const { return config_.text(); }

  /*! \brief Checks everything; throws sd::Error. A single layer record becomes an array of one. */
  static tvm::ffi::Module Create(const std::string& config_text,
                                 std::vector<CompiledRegion> regions);
  static tvm::ffi::Module Load(const std::string& bytes);

 private:
  const CompiledRegion* Find(const std::string& name) const;
  void Call(const CompiledRegion& region, tvm::ffi::PackedArgs args);

  Config config_;
  std::vector<CompiledRegion> regions_;
  std::mutex mutex_;  // guards workspace_
  Workspace workspace_;
};

}  // namespace runtime
}  // namespace sd

#endif  // SD_RUNTIME_MODULE_H_
