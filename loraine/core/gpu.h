// The GPU as the program sees it: a card, memory, streams, events, graphs. Which one a program has is decided when it is linked:
// gpu_cuda.cpp is the real one (LORAINE_CUDA), gpu_emulated.cpp one that is not there, for tests (docs/cuda.md). No type of CUDA occurs
// here.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "loraine/core/gpu_costs.h"

namespace loraine {

struct GpuCard {
  std::string name;
  int capability = 0;  // 90: sm_90
  int multiprocessors = 0;
  size_t bytes = 0;
  bool emulated = false;
};
// The first card, opened. Throws `unsupported` that says what is missing: CUDA code in this build, a driver, a card, one of sm_80 or later.
const GpuCard& open_gpu();
size_t free_gpu_bytes();

// device: the host may not touch it. pinned: the host's, copied from and to while both go on.
enum class GpuMemoryKind { device, pinned };

class GpuMemory {
 public:
  GpuMemory() = default;
  explicit GpuMemory(size_t bytes, GpuMemoryKind kind = GpuMemoryKind::device);  // 256-byte aligned; throws out_of_memory
  ~GpuMemory();
  GpuMemory(GpuMemory&& other) noexcept;
  GpuMemory& operator=(GpuMemory&& other) noexcept;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  GpuMemoryKind kind_ = GpuMemoryKind::device;
};

class GpuEvent {  // a place in the work of a stream
 public:
  struct State;
  std::shared_ptr<State> state;  // nullptr: nothing to wait for
};

class GpuGraph {  // work of a stream that was captured, to be done again as often as wanted
 public:
  struct State;
  std::shared_ptr<State> state;
};

// Work that is done in order, later. Pointers are of device or pinned memory; arguments of kernels are those of the call.
class GpuStream {
 public:
  struct State;
  GpuStream();
  explicit GpuStream(GpuCosts& costs);  // counts what is asked of it, and does nothing: no card is needed
  ~GpuStream();                         // after its work
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
  void copy(void* to, const void* from, size_t bytes);
  void fill(void* at, unsigned char byte, size_t bytes);
  GpuEvent record();
  void wait(const GpuEvent& event);  // what comes next in this stream comes after what was before the event in its own
  void synchronise();                // until all of it is done; an error of any kernel before comes out here
  void begin_capture();              // until end_capture nothing is done, and neither allocating nor synchronising is allowed
  GpuGraph end_capture();
  void launch(const GpuGraph& graph);
  void* handle() const;  // cudaStream_t
  State& state() const { return *state_; }

  void count(GpuCosts* costs) { costs_ = costs; }  // from now on what is asked of it is counted there too; nullptr: no more
  bool counts() const { return costs_ != nullptr; }
  bool dry() const { return dry_; }
  // What the next launch moves and computes: every op says it, with the bytes of each operand once.
  void moves(double bytes, double matrix = 0, double scalar = 0) { next_ = {1, bytes, matrix, scalar}, said_ = true; }
  bool begins(std::string_view name);  // a launch is counted; false: it is not to be done

 private:
  bool copies(size_t bytes), fills(size_t bytes), waits();  // the same
  std::unique_ptr<State> state_;
  GpuCosts* costs_ = nullptr;
  bool dry_ = false, said_ = false;
  GpuCosts::Op next_;
};

// "what: name of the error, its text", as a device error (out_of_memory where it is one).
[[noreturn]] void throw_gpu_error(const char* what, int error);

}  // namespace loraine
