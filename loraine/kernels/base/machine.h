// What this machine's instruction set is, and how fast the GEMM library multiplies on it when it runs alone. Called by bench and by train's
// plan.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "loraine/core/dtype.h"

namespace loraine {

std::string instruction_set();  // "AVX2", "AVX-512", "AVX-512 BF16", …: what oneDNN uses here
bool has_bf16_instructions();   // AVX-512 BF16: it can multiply bf16 by bf16 into f32, and rounds to bf16 by one instruction
inline const bool has_bf16_rounding = has_bf16_instructions();
// Whether products of bf16 run in bf16: where these instructions are faster than f32's. Those of AMX are, and AMD's; Intel's vdpbf16ps
// takes two cycles where two f32 multiply-adds of as many lanes take one (one core: 88 GFLOP/s against 176), so that without AMX
// its processors widen and multiply in f32, as those without the instructions do.
bool has_bf16_products();

// Lets the GEMM library generate its code now, so that the memory it takes is there to be counted before the steps begin. bf16: that of
// bf16 products too, where the machine has them.
void warm_up_products(bool bf16);

// Seconds of one product y [M, N] = x [M, K] wᵀ (w [N, K]) or, with nn, x [M, K] w (w [K, N]), as oneDNN runs it by itself on all threads:
// one call, its own cut. type: F32; BF16 (needs has_bf16_instructions()) or I8 (has_int8_products()) with w packed beforehand. The memory
// is the function's own.
struct ProductTime {
  double wall = 0, cpu = 0;  // cpu: of all threads of the process together
};
ProductTime time_library_product(int64_t M, int64_t N, int64_t K, bool nn, Dtype type);
// Seconds of adding up all pieces (data, bytes) with all threads: what a product with one row could reach at most.
ProductTime time_plain_read(std::span<const std::pair<const void*, int64_t>> pieces);

double process_cpu_seconds();  // all threads of this process

}  // namespace loraine
