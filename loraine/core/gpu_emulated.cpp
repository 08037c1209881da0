// A GPU that is not there, for tests of the host's part: memory that only kernels and copies may touch, in one region that mprotect closes
// while the host runs; streams as lists of work that is done late, in any order that streams and events allow; graphs that are replayed.
#include "loraine/core/gpu_emulated.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {

void (*on_emulated_memory)(const void* data, size_t bytes, bool begins) = nullptr;

struct GpuEvent::State {  // one piece of work; an event is the work before it
  std::function<void()> run;
  std::vector<std::shared_ptr<State>> after;
  const char* name = "";
  bool done = false;
  bool ready() const {
    return std::all_of(after.begin(), after.end(), [](const auto& before) { return before->done; });
  }
};
using EmulatedWork = std::shared_ptr<GpuEvent::State>;

struct GpuGraph::State {
  std::vector<EmulatedWork> work;
};

struct GpuStream::State {
  EmulatedWork last;
  std::vector<EmulatedWork> waits;
  std::shared_ptr<GpuGraph::State> capture;
};

namespace {

constexpr size_t kRegionBytes = size_t{64} << 30, kPage = 4096, kAlignment = 256;

struct EmulatedMemory {
  char* region = nullptr;
  size_t used = 0, bytes = 0;
  int open = 0;                    // how many times
  std::map<char*, size_t> blocks;  // pages of what is allocated
  std::map<char*, size_t> asked;   // first byte → bytes
  std::atomic<int64_t> touches{0};
};
EmulatedMemory memory;
EmulatedOrder order;
uint64_t random_state = 1;
std::list<EmulatedWork> pending;
int captures = 0;

void protect(int how) {
  for (auto [p, bytes] : memory.blocks) mprotect(p, bytes, how);
}

void on_fault(int, siginfo_t* info, void*) {
  char* at = static_cast<char*>(info->si_addr);
  if (!memory.region || at < memory.region || at >= memory.region + kRegionBytes) {
    std::signal(SIGSEGV, SIG_DFL);  // somebody else's: it comes again, and ends the program
    return;
  }
  const char* host = "emulated GPU: the host touches device memory\n";
  const char* kernel = "emulated GPU: a kernel or copy touches memory that is not allocated\n";
  const char* text = memory.open ? kernel : host;
  if (write(2, text, std::strlen(text)) < 0) return;
  ++memory.touches;
  // It goes on, so that a test sees all of them.
  mprotect(memory.region + static_cast<size_t>(at - memory.region) / kPage * kPage, kPage, PROT_READ | PROT_WRITE);
}

// LORAINE_GPU_BYTES: what the card is said to have, for tests of plans.
size_t card_bytes() {
  const char* asked = std::getenv("LORAINE_GPU_BYTES");
  return asked ? std::min(kRegionBytes, static_cast<size_t>(std::strtoull(asked, nullptr, 10))) : kRegionBytes;
}

void start_memory() {
  if (memory.region) return;
  void* region = mmap(nullptr, kRegionBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) throw Error(ErrorKind::out_of_memory, "emulated GPU: no addresses for its memory (64 GiB, not used)");
  memory.region = static_cast<char*>(region);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
}

void* allocate(size_t bytes) {
  start_memory();
  const size_t rounded = (bytes + kPage - 1) / kPage * kPage;
  if (memory.bytes + bytes > card_bytes())
    throw Error(ErrorKind::out_of_memory, "emulated GPU: " + std::to_string(bytes) + " bytes more than its memory has free are allocated");
  if (memory.used + rounded + kPage > kRegionBytes) throw Error(ErrorKind::out_of_memory, "emulated GPU: 64 GiB were allocated in all");
  char* pages = memory.region + memory.used + kPage;  // a closed page between any two
  memory.used += rounded + kPage;
  memory.blocks[pages] = rounded;
  mprotect(pages, rounded, PROT_READ | PROT_WRITE);
  std::memset(pages, 0xff, rounded);  // NaN: what nobody has written shows
  if (!memory.open) mprotect(pages, rounded, PROT_NONE);
  char* data = pages + (rounded - bytes) / kAlignment * kAlignment;  // it ends near its last page, so that what goes beyond is seen
  memory.asked[data] = bytes;
  memory.bytes += bytes;
  if (on_emulated_memory) on_emulated_memory(data, bytes, true);
  return data;
}

void release(void* p) {
  char* data = static_cast<char*>(p);
  auto block = std::prev(memory.blocks.upper_bound(data));
  if (on_emulated_memory) on_emulated_memory(p, memory.asked.at(data), false);
  memory.bytes -= memory.asked.at(data);
  memory.asked.erase(data);
  mprotect(block->first, block->second, PROT_NONE);  // for good: addresses are not used again
  madvise(block->first, block->second, MADV_DONTNEED);
  memory.blocks.erase(block);
}

uint64_t next_random() {  // splitmix64
  uint64_t z = (random_state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  return z ^ (z >> 31);
}

void do_work(GpuEvent::State& work) {
  const OpenDeviceMemory open;
  work.done = true;  // also when it throws: nobody waits for it for ever
  work.run();
  work.run = nullptr;
  work.after.clear();
}

// One of those that could be next.
void do_any() {
  std::vector<std::list<EmulatedWork>::iterator> can;
  for (auto it = pending.begin(); it != pending.end(); ++it)
    if ((*it)->ready()) can.push_back(it);
  if (can.empty()) throw Error(ErrorKind::internal, "emulated GPU: work waits for itself");
  auto it = can[next_random() % can.size()];
  const EmulatedWork work = *it;
  pending.erase(it);
  do_work(*work);
}

void replay(const GpuGraph::State& graph) {
  for (const EmulatedWork& work : graph.work) work->done = false;
  for (size_t left = graph.work.size(); left > 0; --left) {
    std::vector<GpuEvent::State*> can;
    for (const EmulatedWork& work : graph.work)
      if (!work->done && work->ready()) can.push_back(work.get());
    GpuEvent::State& work = *can.at(next_random() % can.size());
    work.run();
    work.done = true;
  }
}

}  // namespace

OpenDeviceMemory::OpenDeviceMemory() {
  if (memory.open++ == 0) protect(PROT_READ | PROT_WRITE);
}
OpenDeviceMemory::~OpenDeviceMemory() {
  if (--memory.open == 0) protect(PROT_NONE);
}

int64_t forbidden_touches() { return memory.touches; }
size_t emulated_bytes() { return memory.bytes; }
void set_emulated_order(EmulatedOrder wanted) {
  order = wanted;
  random_state = wanted.seed;
}

const GpuCard& open_gpu() {
  const char* asked = std::getenv("LORAINE_GPU");
  if (!asked || std::string(asked) != "emulated")
    throw Error(ErrorKind::unsupported, "device cuda: this build has no CUDA code",
                "Build with -DLORAINE_CUDA=ON (docs/cuda.md), or run on the CPU (device: cpu).");
  static const GpuCard card{"emulated GPU: kernels on the CPU, for tests", 80, 1, card_bytes(), true};
  return card;
}
size_t free_gpu_bytes() { return card_bytes() - std::min(card_bytes(), memory.bytes); }

GpuMemory::GpuMemory(size_t bytes, GpuMemoryKind kind) : bytes_(bytes), kind_(kind) {
  if (captures) throw Error(ErrorKind::internal, "emulated GPU: memory is allocated while a stream is captured");
  if (!bytes) return;
  data_ =
      kind == GpuMemoryKind::device ? allocate(bytes) : std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (!data_) throw Error(ErrorKind::out_of_memory, "cannot allocate " + std::to_string(bytes >> 20) + " MiB of pinned memory");
}
GpuMemory::~GpuMemory() {
  if (!data_) return;
  if (kind_ == GpuMemoryKind::device) release(data_);
  else std::free(data_);
}
GpuMemory::GpuMemory(GpuMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), kind_(other.kind_) {}
GpuMemory& GpuMemory::operator=(GpuMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(kind_, other.kind_);
  return *this;
}

GpuStream::GpuStream() : state_(std::make_unique<State>()) {}
GpuStream::GpuStream(GpuCosts& costs) : costs_(&costs), dry_(true) {}
GpuStream::~GpuStream() {
  if (!state_) return;
  if (state_->capture) --captures;
  try {
    while (state_->last && !state_->last->done) do_any();
  } catch (...) {  // what its work threw is lost, as on a GPU whose stream is thrown away
  }
}

void enqueue_emulated(GpuStream& stream, const char* name, std::function<void()> run) {
  GpuStream::State& s = stream.state();
  auto work = std::make_shared<GpuEvent::State>();
  work->run = std::move(run), work->name = name;
  if (s.last) work->after.push_back(s.last);
  work->after.insert(work->after.end(), s.waits.begin(), s.waits.end());
  s.waits.clear();
  s.last = work;
  if (s.capture) {
    s.capture->work.push_back(work);
    return;
  }
  pending.push_back(work);
  if (!order.late)
    while (!work->done) do_any();
}

void GpuStream::copy(void* to, const void* from, size_t bytes) {
  if (!copies(bytes)) return;
  enqueue_emulated(*this, "copy", [=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
}
void GpuStream::fill(void* at, unsigned char byte, size_t bytes) {
  if (!fills(bytes)) return;
  enqueue_emulated(*this, "fill", [=] {
    if (bytes > 0) std::memset(at, byte, bytes);
  });
}
GpuEvent GpuStream::record() { return {dry_ ? nullptr : state_->last}; }
void GpuStream::wait(const GpuEvent& event) {
  if (event.state && !dry_) state_->waits.push_back(event.state);
}
void GpuStream::synchronise() {
  if (!waits()) return;
  if (captures) throw Error(ErrorKind::internal, "emulated GPU: synchronised while a stream is captured");
  while (state_->last && !state_->last->done) do_any();
}
void GpuStream::begin_capture() {
  while (state_->last && !state_->last->done) do_any();
  ++captures;
  state_->capture = std::make_shared<GpuGraph::State>();
  state_->last = nullptr;
}
GpuGraph GpuStream::end_capture() {
  if (!state_->capture) throw Error(ErrorKind::internal, "emulated GPU: end of a capture that has not begun");
  --captures;
  state_->last = nullptr;
  return {std::exchange(state_->capture, nullptr)};
}
void GpuStream::launch(const GpuGraph& graph) {
  if (costs_) ++costs_->graphs;
  if (dry_) return;
  enqueue_emulated(*this, "graph", [held = graph.state] { replay(*held); });
}
void* GpuStream::handle() const { return nullptr; }

void throw_gpu_error(const char* what, int error) {
  throw Error(ErrorKind::device, std::string(what) + ": error " + std::to_string(error) + " of the emulated GPU");
}

}  // namespace loraine
