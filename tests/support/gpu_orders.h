// The orders in which tests run GPU ops: of threads, blocks, copies and streams. gpu_orders_emulated.cpp has those of the emulated GPU,
// gpu_orders_cuda.cpp that of a real one, which has its own.
#pragma once
#include <cstdint>

namespace loraine {

int gpu_orders();
void set_gpu_order(int order);    // 0 … gpu_orders() − 1
int64_t forbidden_gpu_touches();  // of device memory, so far

}  // namespace loraine
