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
  // Products of more than a few rows multiply so many of them by themselves, as if they were all: their bits then do not depend on how many
  // more there are. 0: as the shape suggests.
  int64_t product_rows = 0;
};

// Number of threads that compute, omp_get_max_threads() (OMP_NUM_THREADS). Results never depend on it: work is cut into fixed tiles.
int thread_count();
// Starts them now (core/thread_team.h); throws out_of_memory where that cannot be.
void start_threads();

}  // namespace loraine
