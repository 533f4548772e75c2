// Replaces libFuzzer: mutates the files of a corpus for a number of seconds.
//   sd_fuzz_program SECONDS SEED FILE...
// The same arguments give the same inputs in the same order.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

constexpr size_t kInstruction = 32;

size_t Below(Random& random, size_t n) { return static_cast<size_t>(random() % n); }

/*! \brief Flips a bit, sets a byte, copies an instruction, cuts the end. Mostly the first. */
void Mutate(Random& random, Bytes* bytes) {
  if (bytes->empty()) return;
  const size_t reach =
      Below(random, 4) == 0 ? bytes->size() : std::min<size_t>(bytes->size(), 1500);
  uint8_t& victim = (*bytes)[Below(random, reach)];
  switch (Below(random, 8)) {
    case 0:
      victim = static_cast<uint8_t>(random());
      break;
    case 1:
      victim = Below(random, 2) == 0 ? 0 : 255;
      break;
    case 2:
      // Programs are a prefix, a header of a multiple of 8 bytes, then instructions.
      if (bytes->size() >= 8 * kInstruction) {
        const size_t head = 4 + 48 + 8 * Below(random, 8);
        const size_t n = (bytes->size() - head) / kInstruction;
        const auto from =
            bytes->begin() + static_cast<ptrdiff_t>(head + kInstruction * Below(random, n));
        const auto to =
            bytes->begin() + static_cast<ptrdiff_t>(head + kInstruction * Below(random, n));
        const Bytes copy(from, from + kInstruction);
        std::copy(copy.begin(), copy.end(), to);
      }
      break;
    case 3:
      if (Below(random, 16) == 0) bytes->resize(Below(random, bytes->size()));
      break;
    default:
      victim = static_cast<uint8_t>(victim ^ (1U << Below(random, 8)));
      break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s SECONDS SEED FILE...\n", argv[0]);
    return 2;
  }
  std::vector<Bytes> corpus;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  Random random(std::strtoull(argv[2], nullptr, 10));
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(std::strtol(argv[1], nullptr, 10));
  size_t runs = 0;
  for (const Bytes& bytes : corpus) {
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    ++runs;
  }
  while (std::chrono::steady_clock::now() < end) {
    Bytes bytes = corpus[Below(random, corpus.size())];
    const size_t n = 1 + Below(random, 4);
    for (size_t i = 0; i < n; ++i) Mutate(random, &bytes);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    ++runs;
  }
  std::printf("%zu runs\n", runs);
  return 0;
}
