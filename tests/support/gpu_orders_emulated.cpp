// Four orders of the emulated GPU. It is asked for here, before any test runs.
#include <cstdlib>

#include "loraine/core/gpu_emulated.h"
#include "loraine/kernels/cuda/emulated/emulate.h"
#include "tests/support/gpu_orders.h"

namespace loraine {
namespace {
[[maybe_unused]] const int asked = setenv("LORAINE_GPU", "emulated", 1);
}  // namespace

int gpu_orders() { return 4; }
void set_gpu_order(int order) {
  using emulate::Schedule;
  const Schedule orders[] = {{Schedule::forward, 0}, {Schedule::backward, 0}, {Schedule::random, 1}, {Schedule::random, 2}};
  emulate::schedule = orders[order];
  set_emulated_order({order != 0, static_cast<uint64_t>(order) + 1});
}
int64_t forbidden_gpu_touches() { return forbidden_touches(); }

}  // namespace loraine
