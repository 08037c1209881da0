// The runtime behind -fsanitize=thread's instrumentation of emulated kernels; this file is compiled without it. Per byte of memory it keeps
// the last write and two readers since, with how many barriers their threads had passed.
#include "loraine/kernels/cuda/emulated/races.h"

#include <cstdint>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "loraine/core/gpu_emulated.h"
#include "loraine/kernels/cuda/emulated/emulate.h"

namespace loraine::emulate {
namespace {

struct Access {
  uint32_t launch = 0, block = 0;
  uint16_t thread = 0, epoch = 0, warp_epoch = 0;
  const void* code = nullptr;
};
struct Cell {  // of one byte
  Access write, read[2];
};
struct Range {
  const char* begin = nullptr;
  bool shared = false;
  std::vector<Cell> cells;
  const char* end() const { return begin + cells.size(); }
};

std::map<const char*, Range> ranges;  // by their end
Range* last_range = nullptr;
uint32_t launch_number = 0;
std::string kernel_name;
bool watched = false;
std::set<std::pair<const void*, const void*>> seen;
std::vector<std::string> found;

Range* range_of(const char* p) {
  if (last_range && p >= last_range->begin && p < last_range->end()) return last_range;
  const auto at = ranges.upper_bound(p);
  if (at == ranges.end() || p < at->second.begin) return nullptr;
  return last_range = &at->second;
}

bool ordered(const Access& before, const Access& now) {
  if (before.launch != now.launch) return true;
  if (before.block != now.block) return false;
  if (before.thread == now.thread || before.epoch != now.epoch) return true;
  return before.thread / kWarp == now.thread / kWarp && before.warp_epoch != now.warp_epoch;
}

void conflict(const char* what, const Access& before, const Access& now, const Range& r, const char* p) {
  if (!seen.insert({before.code, now.code}).second) return;
  std::ostringstream text;
  text << kernel_name << ": " << what << " of byte " << p - r.begin << " of " << (r.shared ? "shared" : "device") << " memory: thread "
       << before.thread << " of block " << before.block << " at " << before.code << ", then thread " << now.thread << " of block "
       << now.block << " at " << now.code << ", with no barrier in between";
  found.push_back(text.str());
}

void touch(const void* at, size_t bytes, bool write, const void* code) {
  if (!running.thread) return;
  watched = true;
  const char* p = static_cast<const char*>(at);
  Range* r = range_of(p);
  if (!r) return;
  const Block& b = *running.block;
  const Thread& t = *running.thread;
  const Access now{launch_number,
                   b.index.x + b.grid.x * (b.index.y + b.grid.y * b.index.z),
                   static_cast<uint16_t>(t.linear),
                   static_cast<uint16_t>(b.epoch),
                   static_cast<uint16_t>(t.warp_epoch),
                   code};
  for (; bytes > 0 && p < r->end(); --bytes, ++p) {
    Cell& c = r->cells[static_cast<size_t>(p - r->begin)];
    if (r->shared)  // what another block had there is another memory
      for (const Access* a : {&c.write, &c.read[0], &c.read[1]})
        if (a->launch == now.launch && a->block != now.block) {
          c = Cell{};
          break;
        }
    if (!ordered(c.write, now)) conflict(write ? "write after write" : "read after write", c.write, now, *r, p);
    if (write) {
      for (const Access& reader : c.read)
        if (!ordered(reader, now)) conflict("write after read", reader, now, *r, p);
      c.write = now;
      c.read[0] = c.read[1] = Access{};
    } else if (ordered(c.read[0], now)) {
      c.read[0] = now;
    } else if (ordered(c.read[1], now)) {
      c.read[1] = now;
    }
  }
}

void memory_changes(const void* data, size_t bytes, bool shared, bool begins) {
  const char* begin = static_cast<const char*>(data);
  last_range = nullptr;
  if (begins) ranges[begin + bytes] = Range{begin, shared, std::vector<Cell>(bytes)};
  else ranges.erase(begin + bytes);
}

[[maybe_unused]] const bool listening = [] {
  hooks.launch = [](const char* name) { ++launch_number, kernel_name = name; };
  hooks.memory = memory_changes;
  hooks.access = [](const void* p, unsigned bytes, bool write) { touch(p, bytes, write, __builtin_return_address(0)); };
  on_emulated_memory = [](const void* data, size_t bytes, bool begins) { memory_changes(data, bytes, false, begins); };
  return true;
}();

}  // namespace

std::vector<std::string> take_races() {
  seen.clear();
  return std::exchange(found, {});
}
bool races_watched() { return watched; }

}  // namespace loraine::emulate

// What the instrumentation calls (compiler-rt, tsan_interface.h).
#define LORAINE_ACCESS(n)                                                                                       \
  void __tsan_read##n(void* p) { loraine::emulate::touch(p, n, false, __builtin_return_address(0)); }           \
  void __tsan_write##n(void* p) { loraine::emulate::touch(p, n, true, __builtin_return_address(0)); }           \
  void __tsan_unaligned_read##n(void* p) { loraine::emulate::touch(p, n, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* p) { loraine::emulate::touch(p, n, true, __builtin_return_address(0)); } \
  void __tsan_read_write##n(void* p) { loraine::emulate::touch(p, n, true, __builtin_return_address(0)); }
extern "C" {
LORAINE_ACCESS(1)
LORAINE_ACCESS(2)
LORAINE_ACCESS(4)
LORAINE_ACCESS(8)
LORAINE_ACCESS(16)
void __tsan_read_range(void* p, size_t n) { loraine::emulate::touch(p, n, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { loraine::emulate::touch(p, n, true, __builtin_return_address(0)); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void* __tsan_memcpy(void* to, const void* from, size_t n) { return __builtin_memcpy(to, from, n); }
void* __tsan_memset(void* to, int byte, size_t n) { return __builtin_memset(to, byte, n); }
void* __tsan_memmove(void* to, const void* from, size_t n) { return __builtin_memmove(to, from, n); }
}
