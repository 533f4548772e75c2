#include "profiler.h"

#include <utility>

#include "../sim/error.h"
#include "../sim/json.h"

namespace sd {
namespace runtime {

Profiler& Profiler::Global() {
  static Profiler profiler;
  return profiler;
}

void Profiler::Start(const std::string& config_text, const std::string& mode) {
  SessionOptions options;
  options.mode = ParseMode(mode);
  if (!config_text.empty()) {
    options.config = std::make_shared<const Config>(Config::Parse(config_text));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_) {
    throw ConfigError("a profiler session is already open. What to do: close it first.");
  }
  open_ = true;
  options_ = std::move(options);
  records_.clear();
  totals_ = Totals();
}

std::string Profiler::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!open_) throw ConfigError("no profiler session is open. What to do: start one first.");
  open_ = false;
  options_ = SessionOptions();
  return "[" + records_ + "]";
}

std::string Profiler::TotalsText() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return totals_.ToJson();
}

SessionOptions Profiler::options() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return options_;
}

void Profiler::Record(const std::string& name, const std::string& layers, const RunResult& result) {
  JsonWriter json;
  json.BeginObject().Key("name").String(name).Key("layers").Raw(layers);
  json.Key("stats").Raw(result.json);
  json.EndObject();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!open_) return;
  totals_.Add(result.totals);
  if (!records_.empty()) records_ += ',';
  records_ += json.str();
}

}  // namespace runtime
}  // namespace sd
