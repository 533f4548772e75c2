// Global function that times a program without running it.
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include "../sim/json.h"
#include "../sim/timed.h"
#include "operands.h"

namespace sd {
namespace runtime {
namespace {

namespace ffi = tvm::ffi;

/*! \brief Timing and energy of a program on a parallel array, as JSON; no operand is needed. */
ffi::String TimeProgramText(const ffi::Bytes& bytes, const ffi::String& config_text, bool trace) {
  return Guard([&] {
    const Program program =
        Program::Parse(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const Config config = Config::Parse(config_text);
    program.CheckFits(config);
    const TimedRun run(config, program);
    JsonWriter json;
    json.BeginObject().Key("mode").String("timed");
    run.Write(&json, trace);
    json.EndObject();
    return ffi::String(json.str());
  });
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def("sd_accel.time_program", TimeProgramText);
}

}  // namespace
}  // namespace runtime
}  // namespace sd
