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
  /*! \brief Closes the session: JSON list of {"name", "layers", "stats"}. */
  std::string Stop();
  /*!
   * \brief Sums over the calls of the open session, or of the last one, as JSON.
   *
   * They are added up here, call by call; nobody sums the records' parts for them.
   */
  std::string TotalsText() const;
  /*! \brief Options of the open session; outside one, the defaults. */
  SessionOptions options() const;
  /*! \brief Keeps a call; `layers` is a JSON array. */
  void Record(const std::string& name, const std::string& layers, const RunResult& result);

 private:
  mutable std::mutex mutex_;
  bool open_ = false;
  SessionOptions options_;
  std::string records_;
  Totals totals_;
};

}  // namespace runtime
}  // namespace sd

#endif  // SD_RUNTIME_PROFILER_H_
