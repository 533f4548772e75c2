// Replaces libFuzzer where the compiler has none: no coverage, the same mutations.
//   sd_fuzz_program -max_total_time=SECONDS -seed=SEED FILE|DIRECTORY...
// The same arguments give the same inputs in the same order. Understands just these two options.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kMaxSize = 1 << 16;
constexpr size_t kMaxCorpus = 512;

std::mt19937_64& Engine() {
  static std::mt19937_64 engine;
  return engine;
}

size_t Below(size_t n) { return static_cast<size_t>(Engine()() % n); }

Bytes ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

}  // namespace

/*! \brief Flips, sets, removes, adds bytes. */
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size) {
  if (size == 0 || Below(8) == 0) {
    if (size < max_size) data[size++] = static_cast<uint8_t>(Below(256));
    return size;
  }
  uint8_t& victim = data[Below(size)];
  switch (Below(8)) {
    case 0:
      victim = static_cast<uint8_t>(Below(256));
      return size;
    case 1:
      victim = Below(2) == 0 ? 0 : 255;
      return size;
    case 2:
      return Below(16) == 0 ? Below(size) : size;
    default:
      victim = static_cast<uint8_t>(victim ^ (1U << Below(8)));
      return size;
  }
}

int main(int argc, char** argv) {
  long seconds = 0;
  std::vector<Bytes> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (argument.rfind("-max_total_time=", 0) == 0) {
      seconds = std::strtol(argument.c_str() + equals + 1, nullptr, 10);
    } else if (argument.rfind("-seed=", 0) == 0) {
      Engine().seed(std::strtoull(argument.c_str() + equals + 1, nullptr, 10));
    } else if (argument[0] == '-') {
      continue;
    } else if (std::filesystem::is_directory(argument)) {
      std::vector<std::filesystem::path> paths;
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        paths.push_back(entry.path());
      }
      std::sort(paths.begin(), paths.end());
      for (const auto& path : paths) corpus.push_back(ReadFile(path));
    } else {
      corpus.push_back(ReadFile(argument));
    }
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "usage: %s -max_total_time=SECONDS -seed=SEED FILE|DIRECTORY...\n",
                 argv[0]);
    return 2;
  }
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) {
    Bytes bytes = corpus[Below(corpus.size())];
    const size_t size = bytes.size();
    bytes.resize(std::max(kMaxSize, size));
    bytes.resize(LLVMFuzzerCustomMutator(bytes.data(), size, bytes.size(),
                                         static_cast<unsigned>(Engine()())));
    bytes.shrink_to_fit();
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    // Changes add up: without coverage some mutants stay, so that the next ones go further.
    if (Below(8) != 0) continue;
    if (corpus.size() < kMaxCorpus) {
      corpus.push_back(std::move(bytes));
    } else {
      corpus[Below(corpus.size())] = std::move(bytes);
    }
  }
  return 0;
}
