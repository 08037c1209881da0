// What tests ask of the emulated GPU, and kernels of its streams.
#pragma once
#include <cstdint>
#include <functional>

#include "loraine/core/gpu.h"

namespace loraine {

// A kernel or a library's call: run() is done when its turn comes, with device memory open.
void enqueue_emulated(GpuStream& stream, const char* name, std::function<void()> run);

struct EmulatedOrder {  // of work that no stream and no event orders
  bool late = true;     // false: everything is done when it is asked for
  uint64_t seed = 1;
};
void set_emulated_order(EmulatedOrder order);

// Where somebody touched what he may not: the host device memory, or a kernel what is not allocated or was freed. Each is printed once with
// its place, and the program goes on.
int64_t forbidden_touches();
size_t emulated_bytes();  // of device memory now

// Lets the host look into device memory, for library calls that the CPU does.
class OpenDeviceMemory {
 public:
  OpenDeviceMemory();
  ~OpenDeviceMemory();
};

// Told of every piece of device memory; the race detector listens.
extern void (*on_emulated_memory)(const void* data, size_t bytes, bool begins);

}  // namespace loraine
