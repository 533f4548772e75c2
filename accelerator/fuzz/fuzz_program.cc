// Runs arbitrary bytes as a program: an error of ours or a result, never undefined behaviour.
// Input: u32 length of the program, the program, the bytes of its operands (missing ones are zero).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../sim/error.h"
#include "../sim/executor.h"
#include "../sim/workspace.h"

namespace {

constexpr size_t kPrefix = 4;
constexpr uint64_t kMaxSegmentBytes = 1 << 16;
constexpr uint64_t kMaxInstructions = 512;
constexpr uint64_t kMaxWork = 1 << 20;  // elements of one instruction; more only takes time

const char kConfig[] =
    "inp_kb=64\ncode_kb=64\nbasis_kb=16\nidx_kb=16\nqp_kb=16\nlut_kb=4\nacc_kb=256\nout_kb=64\n";

/*! \brief Ends a run whose next instruction would take long. */
class Budget : public sd::Observer {
 public:
  void Before(const sd::Event& event, const sd::Memories& memories) override {
    (void)memories;
    if (Work(event) > kMaxWork) throw sd::ProgramError("too much work");
  }

 private:
  static uint64_t Work(const sd::Event& event) {
    const sd::isa::Body& body = event.instruction->body;
    if (const auto* load = std::get_if<sd::isa::Load>(&body)) {
      return (load->x + 64ULL) * (load->y + 64ULL) * load->z;
    }
    if (const auto* store = std::get_if<sd::isa::Store>(&body)) {
      return uint64_t{store->x} * store->y * store->z;
    }
    if (const auto* alu = std::get_if<sd::isa::Alu>(&body)) {
      return uint64_t{alu->n[0]} * alu->n[1] * alu->n[2];
    }
    const auto* gemm = std::get_if<sd::isa::Gemm>(&body);
    if (gemm == nullptr || event.setw == nullptr) return 0;
    const uint64_t pixels = uint64_t{gemm->n_oy} * gemm->n_ox;
    const uint64_t tiles = gemm->n_m / 16 + 1;
    const uint64_t taps = uint64_t{event.setw->n_ky} * event.setw->n_kx;
    return tiles * (pixels + 16 * taps) * (event.setw->cg / 16 + 1) * taps;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sd::Config config = sd::Config::Parse(kConfig);
  static sd::Workspace workspace;
  if (size < kPrefix) return 0;
  const size_t length = std::min<size_t>(data[0] | data[1] << 8 | data[2] << 16, size - kPrefix);
  const uint8_t* operand = data + kPrefix + length;
  const uint8_t* const end = data + size;
  try {
    const sd::Program program = sd::Program::Parse(data + kPrefix, length);
    program.CheckFits(config);
    if (program.instructions.size() > kMaxInstructions) return 0;
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<sd::Segment> segments;
    for (const uint64_t n : program.segment_bytes) {
      if (n > kMaxSegmentBytes) return 0;
      bytes.emplace_back(n);
      const auto given = std::min<ptrdiff_t>(static_cast<ptrdiff_t>(n), end - operand);
      std::copy(operand, operand + given, bytes.back().begin());
      operand += given;
      segments.push_back({bytes.back().data(), n});
    }
    Budget budget;
    sd::Execute(program, segments, &workspace, &budget);
  } catch (const sd::Error& error) {
    return error.what()[0] == '\0' ? 1 : 0;
  }
  return 0;
}
