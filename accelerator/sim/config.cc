#include "config.h"

#include <charconv>
#include <sstream>

#include "error.h"

namespace sd {

Config Config::Parse(const std::string& text) {
  Config config;
  config.text_ = text;
  std::istringstream stream(text);
  std::string line;
  for (int number = 1; std::getline(stream, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    const size_t equals = line.find('=');
    const char* end = line.data() + line.size();
    int64_t value = 0;
    bool good = equals != std::string::npos && equals > 0;
    if (good) {
      const auto result = std::from_chars(line.data() + equals + 1, end, value);
      good = result.ec == std::errc() && result.ptr == end;
    }
    if (!good) {
      throw ConfigError("configuration line " + std::to_string(number) + " is '" + line +
                        "'. Expected: key=integer. What to do: pass AcceleratorConfig.to_text().");
    }
    if (!config.values_.emplace(line.substr(0, equals), value).second) {
      throw ConfigError("configuration line " + std::to_string(number) + " repeats '" +
                        line.substr(0, equals) + "'. Expected: every key once.");
    }
  }
  return config;
}

int64_t Config::Get(const std::string& key, int64_t lo, int64_t hi) const {
  const auto it = values_.find(key);
  if (it == values_.end()) {
    throw ConfigError("the configuration has no '" + key +
                      "'. What to do: pass AcceleratorConfig.to_text() of this version.");
  }
  if (it->second < lo || it->second > hi) {
    throw ConfigError("the configuration's '" + key + "' is " + std::to_string(it->second) +
                      ". Expected: " + std::to_string(lo) + ".." + std::to_string(hi) + ".");
  }
  return it->second;
}

uint64_t Config::Words(isa::Mem mem) const {
  const isa::MemoryInfo& info = isa::kMemories[static_cast<int>(mem)];
  return static_cast<uint64_t>(Get(info.config_key, 0, int64_t{1} << 30)) * 1024 / info.word_bytes;
}

}  // namespace sd
