// The scheduler of emulated kernels: stacks of fibers, blocks, barriers.
#include "loraine/kernels/cuda/emulated/emulate.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>

#include "loraine/core/dtype.h"
#include "loraine/core/gpu_emulated.h"

#if defined(__SANITIZE_ADDRESS__)
#define EMULATE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATE_ASAN 1
#endif
#endif
#ifdef EMULATE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace loraine::emulate {
namespace {

// Not a power of two, or the tops of all stacks would compete for the same lines of the cache.
#ifdef EMULATE_ASAN
constexpr size_t kStackBytes = (256 << 10) + 4096 + 192;
#else
constexpr size_t kStackBytes = (64 << 10) + 4096 + 192;
#endif

// LORAINE_GPU_ORDER in the environment, 0 … 3: the orders of tests/support/gpu_orders_emulated.cpp for a whole run of the program.
[[maybe_unused]] const bool asked_order = [] {
  const char* text = std::getenv("LORAINE_GPU_ORDER");
  const int number = text ? std::atoi(text) : -1;
  if (number < 0 || number > 3) return false;
  const Schedule orders[] = {{Schedule::forward, 0}, {Schedule::backward, 0}, {Schedule::random, 1}, {Schedule::random, 2}};
  schedule = orders[number];
  set_emulated_order({number != 0, static_cast<uint64_t>(number) + 1});
  return true;
}();

struct Fibers {  // of one thread of the machine
  void* scheduler_stack = nullptr;
  void (*body)(const void*) = nullptr;
  const void* arguments = nullptr;
  char* stacks = nullptr;
  size_t count = 0;
  std::vector<int> unused;  // the one last used on top: it is in the cache
#ifdef EMULATE_ASAN
  const void* scheduler_bottom = nullptr;
  size_t scheduler_size = 0;
#endif
  Fibers() = default;
  Fibers(const Fibers&) = delete;
  ~Fibers() {
    if (stacks) munmap(stacks, count * kStackBytes);
  }
  void reserve(size_t threads) {
    if (count < threads) {
      if (stacks) munmap(stacks, count * kStackBytes);
      void* memory = mmap(nullptr, threads * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      stacks = static_cast<char*>(memory);
      count = threads;
    }
    unused.resize(count);
    for (size_t i = 0; i < count; ++i) unused[i] = static_cast<int>(count - 1 - i);
  }
};
thread_local Fibers fibers;

// Saves the registers that a call keeps and the stack pointer, and goes on where `to` was left.
#if defined(__x86_64__)
__attribute__((naked, noinline)) void switch_stack(void** /*from*/, void* /*to*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
void* first_frame(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--sp = nullptr;  // so that the stack is aligned as after a call
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  return sp;
}
#elif defined(__aarch64__)
__attribute__((naked, noinline)) void switch_stack(void** /*from*/, void* /*to*/) {
  asm volatile(
      "sub sp, sp, #160\n stp x19, x20, [sp, #0]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n stp x25, x26, [sp, #48]\n"
      "stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n stp d12, d13, [sp, #128]\n"
      "stp d14, d15, [sp, #144]\n mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
      "ldp x19, x20, [sp, #0]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n ldp x25, x26, [sp, #48]\n ldp x27, x28, [sp, #64]\n"
      "ldp x29, x30, [sp, #80]\n ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n ldp d12, d13, [sp, #128]\n ldp d14, d15, [sp, #144]\n"
      "add sp, sp, #160\n ret\n");
}
void* first_frame(char* top, void (*entry)()) {
  char* sp = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15}) - 160;
  std::memset(sp, 0, 160);
  std::memcpy(sp + 88, &entry, sizeof entry);
  return sp;
}
#else
#error "emulate.cpp: write switch_stack for this processor"
#endif

void to_scheduler([[maybe_unused]] bool last) {
#ifdef EMULATE_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake, fibers.scheduler_bottom, fibers.scheduler_size);
#endif
  switch_stack(&running.thread->stack_pointer, fibers.scheduler_stack);
#ifdef EMULATE_ASAN
  __sanitizer_finish_switch_fiber(fake, &fibers.scheduler_bottom, &fibers.scheduler_size);
#endif
}

void fiber_entry() {
#ifdef EMULATE_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &fibers.scheduler_bottom, &fibers.scheduler_size);
#endif
  try {
    fibers.body(fibers.arguments);
    if (!running.thread->copies.empty()) fail("a thread ends with copies that nobody has waited for");
  } catch (...) {
    if (!running.block->failure) running.block->failure = std::current_exception();
  }
  running.thread->state = State::done;
  to_scheduler(true);
  std::abort();
}

void resume(Thread& t) {
  running.thread = &t;
  if (t.stack < 0) {
    t.stack = fibers.unused.back();
    fibers.unused.pop_back();
    char* bottom = fibers.stacks + static_cast<size_t>(t.stack) * kStackBytes;
#ifdef EMULATE_ASAN
    __asan_unpoison_memory_region(bottom, kStackBytes);
#endif
    t.stack_pointer = first_frame(bottom + kStackBytes, fiber_entry);
  }
#ifdef EMULATE_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fibers.stacks + static_cast<size_t>(t.stack) * kStackBytes, kStackBytes);
#endif
  switch_stack(&fibers.scheduler_stack, t.stack_pointer);
#ifdef EMULATE_ASAN
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  running.thread = nullptr;
  if (t.state == State::done) fibers.unused.push_back(t.stack);
}

struct Random {  // splitmix64
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
};

void arrange(std::vector<unsigned>& order, Random& random) {
  std::iota(order.begin(), order.end(), 0u);
  if (schedule.order == Schedule::backward) std::reverse(order.begin(), order.end());
  if (schedule.order == Schedule::random)
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.next() % i]);
}

[[noreturn]] void fail_block(const std::string& text) {
  running.thread = nullptr;
  fail(text);
}

[[noreturn]] void fail_stuck(const Block& b) {
  std::string text = "nobody can go on";
  unsigned shown = 0;
  for (unsigned i = 0; i < b.threads && shown < 4; ++i)
    if (b.thread[i].state != State::done) text += "; thread " + std::to_string(i) + " waits in " + b.thread[i].where, ++shown;
  fail_block(text);
}

// Lets all threads that have met at a barrier go on, if all are there.
bool release_barrier(Block& b) {
  if (!b.live || b.at_barrier != b.live) return false;
  if (b.live != b.threads) fail_block(std::string("threads have ended before a barrier that others wait at, ") + b.barrier_where);
  for (Thread& t : b.thread) {
    if (std::strcmp(t.where, b.barrier_where) != 0)
      fail_block(std::string("threads of one block wait at different barriers, ") + t.where + " and " + b.barrier_where);
    t.state = State::ready;
  }
  b.at_barrier = 0;
  ++b.epoch;
  return true;
}

// Runs the ready threads of a warp until all of them wait, or once through them.
bool run_warp(Block& b, const Warp& w, const std::vector<unsigned>& lanes) {
  bool progress = false, again = true;
  while (again) {
    again = false;
    for (unsigned lane : lanes) {
      if (lane >= w.count) continue;
      Thread& t = b.thread[w.first + lane];
      if (t.state != State::ready) continue;
      resume(t);
      progress = true;
      if (t.state == State::done) --b.live;
      if (b.failure) std::rethrow_exception(b.failure);
    }
    if (schedule.order == Schedule::random) break;  // another warp may go on first
    for (unsigned i = 0; i < w.count; ++i) again |= b.thread[w.first + i].state == State::ready;
  }
  return progress;
}

void run_block(Block& b, Random& random) {
  fibers.reserve(b.threads);
  running.block = &b;
  b.live = b.threads;
  b.at_barrier = b.epoch = 0;
  if (b.shared) std::memset(b.shared, 0xff, b.shared_bytes);  // NaN: what nobody has written shows
  for (Warp& w : b.warp) w.arrived = w.generation = 0;
  for (Thread& t : b.thread) {
    t.state = State::ready;
    t.warp_epoch = t.copy_group = 0;
    t.copies.clear();
    t.stack = -1;
  }
  std::vector<unsigned> warps(b.warp.size()), lanes(kWarp);
  arrange(warps, random);
  arrange(lanes, random);
  while (b.live) {
    bool progress = false;
    for (unsigned w : warps) progress |= run_warp(b, b.warp[w], lanes);
    if (release_barrier(b)) {
      arrange(warps, random);
      arrange(lanes, random);
    } else if (b.live && !progress) {
      fail_stuck(b);
    }
  }
}

struct LeaveBlock {  // whatever happens, nothing runs afterwards
  ~LeaveBlock() { running = {}; }
};

// The block's shared memory: as many bytes as asked for and no more, so that ASan sees what goes beyond them.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : bytes_(bytes), room_((bytes + 127) / 128 * 128) {
    if (!bytes) return;
    data_ = static_cast<unsigned char*>(std::aligned_alloc(128, room_));
    if (!data_) throw std::bad_alloc();
#ifdef EMULATE_ASAN
    __asan_poison_memory_region(data_ + bytes_, room_ - bytes_);
#endif
    if (hooks.memory) hooks.memory(data_, bytes_, true, true);
  }
  SharedMemory(const SharedMemory&) = delete;
  ~SharedMemory() {
    if (!data_) return;
    if (hooks.memory) hooks.memory(data_, bytes_, true, false);
#ifdef EMULATE_ASAN
    __asan_unpoison_memory_region(data_, room_);
#endif
    std::free(data_);
  }
  unsigned char* data() const { return data_; }

 private:
  unsigned char* data_ = nullptr;
  size_t bytes_, room_;
};

void arrive(const PendingCopy& c) {
  std::memcpy(c.to, c.from, c.bytes);
  std::memset(static_cast<char*>(c.to) + c.bytes, 0, c.zeros);
}
void tell_copy(const PendingCopy& c) {
  if (!hooks.access) return;
  if (c.bytes) hooks.access(c.from, c.bytes, false);
  hooks.access(c.to, c.bytes + c.zeros, true);
}

float low_half(uint64_t word) { return bf16_to_f32(static_cast<bf16>(word & 0xffff)); }
float high_half(uint64_t word) { return bf16_to_f32(static_cast<bf16>(word >> 16 & 0xffff)); }

// d [16, 8] = a [16, 16] b [16, 8] from the fragments of all lanes (PTX ISA, mma.m16n8k16 with .bf16); sums in f32, in ascending order.
void multiply_all(Warp& w, Exchange& e) {
  if (w.count != kWarp) fail("mma needs all 32 lanes of a warp");
  float a[16][16], b[16][8], sum[16][8] = {};
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const unsigned g = lane / 4, t = lane % 4 * 2;
    const uint64_t* r = e.words[lane];
    for (unsigned i = 0; i < 4; ++i) {
      a[g + i % 2 * 8][t + i / 2 * 8] = low_half(r[i]);
      a[g + i % 2 * 8][t + i / 2 * 8 + 1] = high_half(r[i]);
    }
    for (unsigned i = 0; i < 2; ++i) b[t + i * 8][g] = low_half(r[4 + i]), b[t + i * 8 + 1][g] = high_half(r[4 + i]);
  }
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 8; ++n) sum[m][n] += a[m][k] * b[k][n];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const unsigned g = lane / 4, t = lane % 4 * 2;
    const float out[4] = {sum[g][t], sum[g][t + 1], sum[g + 8][t], sum[g + 8][t + 1]};
    std::memcpy(e.words[lane], out, sizeof out);
  }
}

}  // namespace

void fail(const std::string& text) {
  std::string place;
  if (running.block) {
    const Index& i = running.block->index;
    place = std::string(" (") + running.block->kernel + ", block " + std::to_string(i.x) + "," + std::to_string(i.y) + "," +
            std::to_string(i.z);
    if (running.thread) place += ", thread " + std::to_string(running.thread->linear);
    place += ")";
  }
  throw Failure(text + place);
}

void give_way() { to_scheduler(false); }

void block_barrier(const char* where) {
  Thread& t = *running.thread;
  Block& b = *running.block;
  if (b.at_barrier == 0) b.barrier_where = where;
  t.where = where;
  ++b.at_barrier;
  t.state = State::at_block;
  give_way();
}

void warp_barrier() {
  meet_warp("warp_barrier", nullptr, 0);
  ++running.thread->warp_epoch;
}

unsigned char* shared_memory(size_t bytes) {
  const Block& b = *running.block;
  if (bytes > b.shared_bytes)
    fail("the kernel uses " + std::to_string(bytes) + " bytes of shared memory, it was launched with " + std::to_string(b.shared_bytes));
  return b.shared;
}

void copy_async(void* to, const void* from, unsigned bytes, unsigned zeros) {
  const unsigned size = bytes + zeros;
  if (reinterpret_cast<uintptr_t>(to) % size != 0 || reinterpret_cast<uintptr_t>(from) % size != 0)
    fail("cp.async: an address is not aligned to " + std::to_string(size) + " bytes");
  Thread& t = *running.thread;
  t.copies.push_back({to, from, bytes, zeros, t.copy_group});
  tell_copy(t.copies.back());
  const bool at_once =
      schedule.order == Schedule::backward || (schedule.order == Schedule::random && (schedule.seed + t.linear + t.copy_group) % 2 == 0);
  if (at_once) arrive(t.copies.back());
}
void copy_commit() { ++running.thread->copy_group; }
void copy_wait(unsigned pending) {
  Thread& t = *running.thread;
  auto waited_for = [&](const PendingCopy& c) { return c.group + pending < t.copy_group; };
  for (const PendingCopy& c : t.copies) {
    if (!waited_for(c)) continue;
    tell_copy(c);
    arrive(c);
  }
  std::erase_if(t.copies, waited_for);
}

void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint64_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const Exchange& e = meet_warp("mma", words, 6, multiply_all);
  float out[4];
  std::memcpy(out, e.words[running.thread->lane], sizeof out);
  for (int i = 0; i < 4; ++i) d[i] += out[i];
}

void load_matrices(uint32_t (&out)[4], const void* row, bool transposed) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("ldmatrix: a row is not aligned to 16 bytes");
  if (hooks.access) hooks.access(row, 16, false);
  const uint64_t word = reinterpret_cast<uintptr_t>(row);
  const Exchange& e = meet_warp("ldmatrix", &word, 1);
  const unsigned g = running.thread->lane / 4, t = running.thread->lane % 4 * 2;
  for (unsigned m = 0; m < 4; ++m) {
    auto element = [&](unsigned i, unsigned j) {
      return static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(e.words[8 * m + i][0])[j]);
    };
    out[m] = transposed ? element(t, g) | element(t + 1, g) << 16 : element(g, t) | element(g, t + 1) << 16;
  }
}

void run_grid(const char* name, Index grid, Index size, size_t shared_bytes, void (*body)(const void*), const void* arguments) {
  auto refuse = [&](const std::string& what) { throw Failure(std::string(name) + ": " + what); };
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    refuse("a grid of " + std::to_string(grid.x) + " × " + std::to_string(grid.y) + " × " + std::to_string(grid.z) + " blocks");
  const uint64_t threads = uint64_t{size.x} * size.y * size.z, blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (!threads || threads > 1024) refuse("a block of " + std::to_string(threads) + " threads; it may have 1 to 1024");
  if (shared_bytes > 99 * 1024)
    refuse(std::to_string(shared_bytes) + " bytes of shared memory; every card from sm_80 on has 101376 (99 KiB) a block");
  if (hooks.launch) hooks.launch(name);
  std::vector<unsigned> order(blocks);
  Random random{schedule.seed + 1};
  arrange(order, random);
  Block b;
  b.size = size, b.grid = grid, b.threads = static_cast<unsigned>(threads), b.kernel = name;
  b.thread.resize(threads);
  b.warp.resize((threads + kWarp - 1) / kWarp);
  for (unsigned i = 0; i < threads; ++i) {
    Thread& t = b.thread[i];
    t.index = Index(i % size.x, i / size.x % size.y, i / (size.x * size.y));
    t.linear = i, t.lane = i % kWarp, t.warp = i / kWarp;
  }
  for (unsigned w = 0; w < b.warp.size(); ++w) b.warp[w].first = w * kWarp, b.warp[w].count = std::min(kWarp, b.threads - w * kWarp);
  const SharedMemory memory(shared_bytes);
  b.shared = memory.data();
  b.shared_bytes = shared_bytes;
  fibers.body = body;
  fibers.arguments = arguments;
  const LeaveBlock leave;
  for (unsigned at : order) {
    b.index = Index(at % grid.x, at / grid.x % grid.y, at / (grid.x * grid.y));
    Random of_block{schedule.seed * 1000003 + at};
    run_block(b, of_block);
  }
}

}  // namespace loraine::emulate
