// Time and memory of what is measured. Called by bench.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "loraine/kernels/base/machine.h"

namespace loraine {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Peak resident bytes since the last reset; what was freed before does not count.
void reset_peak();
int64_t peak_bytes();

struct BestRound {
  double wall = 1e30, cpu = 1e30;
  void take(double w, double c) {
    wall = std::min(wall, w);
    cpu = std::min(cpu, c);
  }
};

// Gives the processor time of this time.
template <class Work>
double measure(BestRound& best, Work&& work) {
  const double wall = now(), cpu = process_cpu_seconds();
  work();
  const double used = process_cpu_seconds() - cpu;
  best.take(now() - wall, used);
  return used;
}

}  // namespace loraine
