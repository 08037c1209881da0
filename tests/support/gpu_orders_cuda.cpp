// A real GPU: the same test twice, whose results must have the same bits.
#include "tests/support/gpu_orders.h"

namespace loraine {

int gpu_orders() { return 2; }
void set_gpu_order(int) {}
int64_t forbidden_gpu_touches() { return 0; }

}  // namespace loraine
