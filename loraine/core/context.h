// What every op runs with: the device, scratch memory and the random state. One per engine thread.
#pragma once
#include <cstdint>

#include "loraine/core/profile.h"
#include "loraine/core/tensor.h"

namespace loraine {

enum class Device { cpu, cuda };

struct Context {
  Device device = Device::cpu;
  uint64_t seed = 42;  // counter-based dropout: the mask of (seed, step, site, element) is rebuilt in the backward
  uint64_t step = 0;
  OpProfile* profile = nullptr;  // takes the time of every op when there is one
};

// Number of OpenMP threads in use. Results never depend on it: work is cut into fixed tiles.
int thread_count();
// Starts the pool now. libgomp ends the program where it cannot start a thread; this throws out_of_memory instead.
void start_threads();

}  // namespace loraine
