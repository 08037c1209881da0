// What kernels are written with. dialect.h says the few things that CUDA does and C++ does not; there are two of it, one for nvcc (nvidia/)
// and one for the emulator (emulated/), and the build's include path chooses. No other file asks which of the two compiles it. In short:
//   launch(name, kernel, grid, block, shared bytes, stream, arguments…)     shared<T>(): the block's shared memory as one struct
//   shuffle_xor(x, mask)     copy_async16, copy_commit, copy_wait<pending>     mma_m16n8k16, load_matrices<transposed> (ldmatrix)
//   UNROLL and ROLLED before a loop     pack_bf16(low, high), bits_to_float, float_to_bits, half_to_float, float_to_half
// The rules (docs/cuda.md; tools/check_kernels.py checks what can be checked): all 32 lanes take part in every operation of a warp, all
// threads of a block in every barrier; no float atomics: sums over blocks are a second launch in a fixed order; arguments are values and
// device pointers.
#pragma once
#include <dialect.h>

#include "loraine/core/tensor.h"

namespace loraine::cuda {

constexpr int kWarp = 32;

struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Bf16 x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }
__device__ __forceinline__ float to_float(Half x) { return half_to_float(x.bits); }
__device__ __forceinline__ void from_float(float& y, float x) { y = x; }
__device__ __forceinline__ void from_float(Bf16& y, float x) { y.bits = static_cast<uint16_t>(pack_bf16(x, 0) & 0xffffu); }
__device__ __forceinline__ float round_to(float x, float) { return x; }  // what a value of the second one's type keeps of x
__device__ __forceinline__ float round_to(float x, Bf16) { return bits_to_float(pack_bf16(0, x) & 0xffff0000u); }

// --- eight elements at a time ---

__device__ __forceinline__ void load_vector(float (&out)[8], const float* in) {
  UNROLL
  for (int half = 0; half < 2; ++half) {
    const float4 v = reinterpret_cast<const float4*>(in)[half];
    out[4 * half] = v.x, out[4 * half + 1] = v.y, out[4 * half + 2] = v.z, out[4 * half + 3] = v.w;
  }
}
__device__ __forceinline__ void load_vector(float (&out)[8], const Bf16* in) {
  const uint4 v = *reinterpret_cast<const uint4*>(in);
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
  UNROLL
  for (int i = 0; i < 4; ++i) out[2 * i] = bits_to_float(words[i] << 16), out[2 * i + 1] = bits_to_float(words[i] & 0xffff0000u);
}
__device__ __forceinline__ void store_vector(float* out, const float (&in)[8]) {
  UNROLL
  for (int half = 0; half < 2; ++half)
    reinterpret_cast<float4*>(out)[half] = float4{in[4 * half], in[4 * half + 1], in[4 * half + 2], in[4 * half + 3]};
}
__device__ __forceinline__ void store_vector(Bf16* out, const float (&in)[8]) {
  *reinterpret_cast<uint4*>(out) =
      uint4{pack_bf16(in[0], in[1]), pack_bf16(in[2], in[3]), pack_bf16(in[4], in[5]), pack_bf16(in[6], in[7])};
}
// Elements [c, c + 8) of a row of C. kWhole: C is a multiple of 8 and rows begin at 16 bytes; else beyond C there are zeros, and nothing is
// written.
template <bool kWhole, class T>
__device__ __forceinline__ void load_eight(float (&out)[8], const T* row, int64_t c, int64_t C) {
  if constexpr (kWhole) {
    load_vector(out, row + c);
  } else {
    UNROLL
    for (int i = 0; i < 8; ++i) out[i] = c + i < C ? to_float(row[c + i]) : 0.0f;
  }
}
template <bool kWhole, class T>
__device__ __forceinline__ void store_eight(T* row, int64_t c, int64_t C, const float (&in)[8]) {
  if constexpr (kWhole) {
    store_vector(row + c, in);
  } else {
    UNROLL
    for (int i = 0; i < 8; ++i)
      if (c + i < C) from_float(row[c + i], in[i]);
  }
}

// --- sums of warps and blocks, in a fixed order; the same value in each thread ---

__device__ __forceinline__ float warp_sum(float x) {
  UNROLL
  for (int m = 16; m > 0; m /= 2) x += shuffle_xor(x, m);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
  UNROLL
  for (int m = 16; m > 0; m /= 2) x = fmaxf(x, shuffle_xor(x, m));
  return x;
}
// One value of each warp of a block; used until the next barrier.
template <class T>
struct RoomOf {
  T of_warp[kWarp];
};
using WarpRoom = RoomOf<float>;
// join(join(x of thread 0, …), …): join is commutative
template <class T, class Join>
__device__ __forceinline__ T block_reduce(T x, RoomOf<T>& room, Join&& join) {
  UNROLL
  for (int m = 16; m > 0; m /= 2) x = join(x, shuffle_xor(x, m));
  if (threadIdx.x % kWarp == 0) room.of_warp[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = room.of_warp[0];
  for (int i = 1; i < static_cast<int>(blockDim.x) / kWarp; ++i) x = join(x, room.of_warp[i]);
  return x;
}
__device__ __forceinline__ float block_sum(float x, WarpRoom& room) {
  return block_reduce(x, room, [](float a, float b) { return a + b; });
}

// --- on the host ---

// Of device memory, each tensor once; those without data none. For GpuStream::moves.
template <class... T>
double bytes_in(const T&... tensors) {
  return ((tensors.data ? static_cast<double>(tensors.bytes()) : 0.0) + ...);
}

// Threads of a block that goes over one row of C elements, eight a thread at a time: fewer for short rows.
inline unsigned row_threads(int64_t C) { return C <= 256 ? 32 : C <= 1024 ? 128 : 256; }

template <class T>
struct Rows {  // of a tensor in device memory
  T* data;
  int64_t stride;
};
template <class T>
Rows<T> rows_of(const Tensor& t) {
  return {static_cast<T*>(t.data), t.row_stride};
}
// Rows that are read or written an element at a time: the type is looked up, instead of one kernel for each.
struct AnyRows {
  void* data;
  int64_t stride;
  bool narrow;
};
inline AnyRows any_rows(const Tensor& t) { return {t.data, t.row_stride, t.dtype == Dtype::BF16}; }
__device__ __forceinline__ float read_element(const AnyRows& rows, int64_t row, int64_t c) {
  return rows.narrow ? to_float(static_cast<const Bf16*>(rows.data)[row * rows.stride + c])
                     : static_cast<const float*>(rows.data)[row * rows.stride + c];
}
__device__ __forceinline__ void write_element(const AnyRows& rows, int64_t row, int64_t c, float x) {
  if (rows.narrow) from_float(static_cast<Bf16*>(rows.data)[row * rows.stride + c], x);
  else static_cast<float*>(rows.data)[row * rows.stride + c] = x;
}

// Whether the vector path of load_eight may be taken for all of them.
template <class... T>
bool whole_vectors(const T&... tensors) {
  auto whole = [](const Tensor& t) {
    return !t.data || (t.cols() % 8 == 0 && t.row_stride % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0);
  };
  return (whole(tensors) && ...);
}

// Calls f(one value of the element type), F32 or BF16.
template <class F>
void with_type(const Tensor& t, F&& f) {
  if (t.dtype == Dtype::BF16) f(Bf16{});
  else f(float{});
}
template <class F>
void with_types(const Tensor& a, const Tensor& b, F&& f) {
  with_type(a, [&](auto of_a) { with_type(b, [&](auto of_b) { f(of_a, of_b); }); });
}

}  // namespace loraine::cuda
