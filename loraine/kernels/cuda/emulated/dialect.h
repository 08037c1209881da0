// The words of kernels as the C++ compiler takes them: see device.h. Its twin for nvcc is nvidia/dialect.h.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>

#include "loraine/core/dtype.h"
#include "loraine/core/gpu.h"
#include "loraine/core/gpu_emulated.h"
#include "loraine/kernels/cuda/emulated/emulate.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define UNROLL
#define ROLLED
#define threadIdx (loraine::emulate::running.thread->index)
#define blockIdx (loraine::emulate::running.block->index)
#define blockDim (loraine::emulate::running.block->size)
#define gridDim (loraine::emulate::running.block->grid)
#define LORAINE_TEXT_OF_(x) #x
#define LORAINE_TEXT_OF(x) LORAINE_TEXT_OF_(x)
#define __syncthreads() loraine::emulate::block_barrier(__FILE__ ":" LORAINE_TEXT_OF(__LINE__))
#define __syncwarp() loraine::emulate::warp_barrier()

namespace loraine::cuda {

using dim3 = emulate::Index;
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
constexpr int min(int a, int b) { return a < b ? a : b; }
constexpr int max(int a, int b) { return a > b ? a : b; }

// When the stream's turn comes; the arguments are those of now.
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, GpuStream& stream, A&&... arguments) {
  if (!stream.begins(name)) return;
  std::tuple<std::decay_t<P>...> values(static_cast<std::decay_t<P>>(arguments)...);
  enqueue_emulated(stream, name, [=] { emulate::launch(name, kernel, grid, block, shared_bytes, values); });
}

template <class T>
T& shared() {
  return *reinterpret_cast<T*>(emulate::shared_memory(sizeof(T)));
}

inline float bits_to_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t float_to_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline uint32_t pack_bf16(float low, float high) {
  auto one = [](float x) { return x != x ? 0x7fffu : uint32_t{f32_to_bf16(x)}; };  // the NaN of cvt.rn.bf16
  return one(low) | one(high) << 16;
}
inline float half_to_float(uint16_t x) { return f16_to_f32(x); }
inline uint16_t float_to_half(float x) { return f32_to_f16(x); }

template <class T>
T shuffle_xor(T x, int mask) {
  return emulate::shuffle(x, emulate::running.thread->lane ^ static_cast<unsigned>(mask));
}

inline void copy_async16(void* to, const void* from, int valid = 16) {
  emulate::copy_async(to, from, static_cast<unsigned>(valid), static_cast<unsigned>(16 - valid));
}
inline void copy_commit() { emulate::copy_commit(); }
template <int kPending>
void copy_wait() {
  emulate::copy_wait(kPending);
}

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { emulate::multiply_fragments(d, a, b0, b1); }
template <bool kTransposed>
void load_matrices(uint32_t (&out)[4], const void* row) {
  emulate::load_matrices(out, row, kTransposed);
}

}  // namespace loraine::cuda
