#include "machine.h"

#include <set>
#include <sstream>
#include <string>

#include "energy.h"
#include "error.h"

namespace sd {
namespace {

constexpr int64_t kVersion = 1;

/*! \brief Reads keys and remembers which ones it has read. */
class Reader {
 public:
  explicit Reader(const Config& config) : config_(config) {}

  uint32_t Get(const char* key, int64_t lo, int64_t hi) {
    seen_.insert(key);
    return static_cast<uint32_t>(config_.Get(key, lo, hi));
  }
  bool Flag(const char* key) { return Get(key, 0, 1) != 0; }
  void Seen(const std::string& key) { seen_.insert(key); }

  /*! \brief Throws ConfigError if the text has a key that nobody read. */
  void CheckAllRead() const {
    std::istringstream stream(config_.text());
    for (std::string line; std::getline(stream, line);) {
      if (line.empty() || line[0] == '#') continue;
      const std::string key = line.substr(0, line.find('='));
      // EnergyPrices reads the prices.
      if (seen_.count(key) == 0 && !IsEnergyKey(key)) {
        throw ConfigError("the configuration has an unknown key '" + key +
                          "'. What to do: pass AcceleratorConfig.to_text() of this version.");
      }
    }
  }

 private:
  const Config& config_;
  std::set<std::string> seen_;
};

void Require(bool condition, const char* message) {
  if (!condition) {
    throw ConfigError(std::string("the configuration is inconsistent: ") + message +
                      ". What to do: pass AcceleratorConfig.to_text().");
  }
}

}  // namespace

Machine Machine::From(const Config& config) {
  Reader in(config);
  Machine m;
  in.Get("config_version", kVersion, kVersion);
  in.Get("clock_mhz", 1, 10000);
  m.m_slices = in.Get("m_slices", 1, 1024);
  m.c_lines = in.Get("c_lines", 1, 256);
  m.f_lanes = in.Get("f_lanes", 1, 64);
  m.serial = in.Flag("mac_serial");
  m.lanes_per_line = in.Get("lanes_per_line", 1, 64);
  m.sync = static_cast<SyncDomain>(in.Get("sync_domain", 0, 2));
  const uint32_t mask = in.Get("fold_mask", 1, 15);
  for (uint32_t fold = 1; fold <= 8; fold *= 2) {
    if ((mask & fold) != 0) m.folds.push_back(fold);
  }
  m.lines_per_re = in.Get("lines_per_re", 0, 256);
  m.port_bytes = in.Get("port_bytes_per_cycle", 1, 1 << 16);
  m.drain_values = in.Get("drain_values_per_cycle", 1, 64);
  m.skip_zero_vectors = in.Flag("skip_zero_vectors");
  m.gemm_fill = in.Get("gemm_fill_cycles", 0, 1024);
  m.alu_lanes = in.Get("alu_lanes", 16, 1024);
  m.alu_acc_ports = in.Get("alu_acc_ports", 1, 4);
  m.alu_fill = in.Get("alu_fill_cycles", 0, 1024);
  m.dram_bytes = in.Get("dram_bytes_per_cycle", 1, 4096);
  m.dram_latency = in.Get("dram_latency_cycles", 0, 1 << 16);
  m.dram_write_latency = in.Get("dram_write_latency_cycles", 0, 1 << 16);
  m.dram_burst = in.Get("dram_burst_bytes", 16, 4096);
  m.dram_gap = in.Get("dram_gap_cycles", 0, 1024);
  m.dram_outstanding = in.Get("dram_outstanding", 1, 64);
  m.dram_efficiency = in.Get("dram_efficiency_percent", 1, 100);
  m.decode = in.Get("decode_cycles", 0, 1024);
  m.queue_depth = in.Get("queue_depth", 0, 4096);
  m.fetch = in.Flag("fetch");
  for (const isa::MemoryInfo& memory : isa::kMemories) in.Seen(memory.config_key);
  in.CheckAllRead();
  Require(m.folds.front() == 1, "fold_mask does not contain 1");
  Require(m.c_lines % m.folds.back() == 0, "a fold does not divide c_lines");
  Require(m.lanes_per_line <= m.f_lanes, "lanes_per_line exceeds f_lanes");
  Require(!m.serial || m.lanes_per_line == m.f_lanes, "a serial line needs f_lanes lanes");
  Require(m.serial || !m.skip_zero_vectors, "skip_zero_vectors without mac_serial");
  Require((m.dram_burst & (m.dram_burst - 1)) == 0, "dram_burst_bytes is no power of two");
  Require(m.alu_lanes % 16 == 0, "alu_lanes is no multiple of 16");
  Require(m.lines_per_re == 0 || m.c_lines % m.lines_per_re == 0,
          "lines_per_re does not divide c_lines");
  return m;
}

}  // namespace sd
