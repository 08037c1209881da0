// CUDA's launch model on the CPU, for tests: grids, blocks, warps, shared memory, barriers, shuffles, copies that do not wait. Each thread
// of a kernel is a fiber; a block runs on one thread of the machine, and its fibers give way only where they wait for each other. Who goes
// first is a choice (Schedule), so that a missing barrier changes the result in one of them. Included by dialect.h beside it and by tests.
#pragma once
#include <cstdint>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace loraine::emulate {

constexpr unsigned kWarp = 32;

struct Index {  // dim3
  unsigned x = 1, y = 1, z = 1;
  constexpr Index(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// In which order the threads of a block, and the blocks of a grid, run between two points where they wait for each other.
struct Schedule {
  enum Order { forward, backward, random } order = forward;
  uint64_t seed = 0;
};
inline Schedule schedule;  // of the launches to come

// What a GPU would hang on, or compute nonsense with: a missing lane, barriers apart, addresses that are not aligned.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class State : uint8_t { ready, at_warp, at_block, done };

struct PendingCopy {  // cp.async: arrives at any time between being asked for and being waited for; the schedule says when
  void* to;
  const void* from;
  unsigned bytes, zeros, group;
};

struct Thread {
  Index index;
  unsigned linear = 0, lane = 0, warp = 0;
  State state = State::ready;
  void* stack_pointer = nullptr;
  int stack = -1;          // from its first step to its last
  const char* where = "";  // what it waits in
  uint32_t warp_epoch = 0;
  std::vector<PendingCopy> copies;
  unsigned copy_group = 0;
};

// What one operation of a warp exchanges. Two slots, used in turn: whoever writes the next but one has been met by all in the next.
struct Exchange {
  uint64_t words[kWarp][6];
};
struct Warp {
  unsigned first = 0, count = 0;
  uint32_t arrived = 0, generation = 0;
  const char* op = nullptr;
  Exchange slots[2];
  uint32_t all() const { return count == kWarp ? ~0u : (1u << count) - 1; }
};

struct Block {
  Index index, size, grid;
  const char* kernel = "";
  unsigned threads = 0, live = 0, at_barrier = 0;
  uint32_t epoch = 0;  // barriers so far
  const char* barrier_where = nullptr;
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  std::vector<Thread> thread;
  std::vector<Warp> warp;
  std::exception_ptr failure;
};

// The running fiber; one per thread of the machine that runs blocks.
struct Running {
  Block* block = nullptr;
  Thread* thread = nullptr;
};
inline constinit thread_local Running running;

// What the race detector (races.cpp) wants to know; nullptr: nobody asks.
struct Hooks {
  void (*launch)(const char* kernel) = nullptr;
  void (*memory)(const void*, size_t bytes, bool shared, bool begins) = nullptr;
  void (*access)(const void*, unsigned bytes, bool write) = nullptr;
};
inline Hooks hooks;

[[noreturn]] void fail(const std::string& text);  // adds kernel, block and thread
void give_way();                                  // until the scheduler comes back to this fiber

// --- what kernels call ---

void block_barrier(const char* where);  // "file:line", by which barriers are told apart
void warp_barrier();
unsigned char* shared_memory(size_t bytes);
void copy_async(void* to, const void* from, unsigned bytes, unsigned zeros);
void copy_commit();
void copy_wait(unsigned pending);  // all groups but the last `pending` have arrived

// All lanes of the warp meet; `words` of each are there for all to read afterwards. The last to come runs whole(warp, slot) once.
template <class Whole>
Exchange& meet_warp(const char* op, const uint64_t* words, unsigned count, Whole&& whole) {
  Thread& t = *running.thread;
  Warp& w = running.block->warp[t.warp];
  const uint32_t mine = w.generation;
  Exchange& slot = w.slots[mine & 1];
  if (w.arrived == 0) w.op = op;
  else if (std::strcmp(w.op, op) != 0) fail(std::string("lanes of one warp are at different operations: ") + w.op + " and " + op);
  for (unsigned i = 0; i < count; ++i) slot.words[t.lane][i] = words[i];
  w.arrived |= 1u << t.lane;
  if (w.arrived == w.all()) {
    whole(w, slot);
    w.arrived = 0;
    ++w.generation;
    for (unsigned i = 0; i < w.count; ++i) {
      Thread& other = running.block->thread[w.first + i];
      if (other.state == State::at_warp) other.state = State::ready;
    }
  } else {
    t.where = op;
    t.state = State::at_warp;
    while (w.generation == mine) give_way();
  }
  return slot;
}
inline Exchange& meet_warp(const char* op, const uint64_t* words, unsigned count) {
  return meet_warp(op, words, count, [](Warp&, Exchange&) {});
}

template <class T>
T shuffle(T value, unsigned from) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  const Exchange& slot = meet_warp("shuffle", &word, 1);
  if (from >= running.block->warp[running.thread->warp].count) fail("shuffle from a lane that is not there");
  std::memcpy(&value, &slot.words[from][0], sizeof value);
  return value;
}

// d += a b of mma.m16n8k16: the fragments of a in words 0 … 3, those of b in 4 and 5, two bf16 each.
void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
// ldmatrix of four 8 × 8 matrices, each lane with the address of one row
void load_matrices(uint32_t (&out)[4], const void* row, bool transposed);

// --- running a grid ---

// Checks what CUDA would refuse and runs all blocks; body(arguments) is one thread of the kernel.
void run_grid(const char* name, Index grid, Index size, size_t shared_bytes, void (*body)(const void*), const void* arguments);

template <class... P>
void launch(const char* name, void (*kernel)(P...), Index grid, Index size, size_t shared_bytes,
            const std::tuple<std::decay_t<P>...>& values) {
  struct Call {
    void (*kernel)(P...);
    const std::tuple<std::decay_t<P>...>& values;
  } call{kernel, values};
  auto body = [](const void* p) {
    const Call& c = *static_cast<const Call*>(p);
    std::apply(c.kernel, c.values);
  };
  run_grid(name, grid, size, shared_bytes, body, &call);
}

}  // namespace loraine::emulate
