#ifndef SD_RUNTIME_PROFILER_H_
#define SD_RUNTIME_PROFILER_H_

#include <memory>
#include <mutex>
#include <string>

#include "../sim/simulate.h"

namespace sd {
namespace runtime {

/*! \brief How calls of compiled layers run while a session is open. */
struct SessionOptions {
  Mode mode = Mode::kFunctional;
  std::shared_ptr<const Config> config;  // null: that of the module
};

/*! \brief Collects one record for every call of a compiled layer. One session a process. */
class Profiler {
 public:
  static Profiler& Global();

  /*! \brief Opens a session; throws ConfigError if one is open. */
  void Start(const std::string& config_text, const std::string& mode);
  /*! \brief Closes the session: JSON list of {"name", "layer", "stats"}. */
  std::string Stop();
  /*! \brief Options of the open session; outside one, the defaults. */
  SessionOptions options() const;
  void Record(const std::string& name, const std::string& layer, const std::string& stats);

 private:
  mutable std::mutex mutex_;
  bool open_ = false;
  SessionOptions options_;
  std::string records_;
};

}  // namespace runtime
}  // namespace sd

#endif  // SD_RUNTIME_PROFILER_H_
