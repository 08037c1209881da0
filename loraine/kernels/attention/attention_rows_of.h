// What the attention kernels share: which keys a row sees, the cap of scores, rows of heads. Included by *_cuda.cu alone.
#pragma once
#include "loraine/kernels/attention/attention_cuda.h"
#include "loraine/kernels/cuda/device.h"

namespace loraine::cuda {

constexpr int kMostHeadDim = 576;

struct HeadShape {
  int heads, kv_heads, D, V;  // D: width of a head of q and k, V: of v and o
  int window, chunk;
  float scale, softcap;
  const float* sinks;
};
inline HeadShape head_shape(const AttentionShape& s) {
  return {static_cast<int>(s.heads),
          static_cast<int>(s.kv_heads),
          static_cast<int>(s.head_dim),
          static_cast<int>(s.value_width()),
          static_cast<int>(s.window),
          static_cast<int>(s.chunk),
          s.scale,
          s.softcap,
          s.sinks};
}

// Keys [first, last) that the query at place `place` of its sequence sees.
__device__ __forceinline__ int first_key_of(int place, const HeadShape& shape) {
  int first = shape.window > 0 ? max(0, place + 1 - shape.window) : 0;
  if (shape.chunk > 0) first = max(first, place / shape.chunk * shape.chunk);
  return first;
}
// Queries [key, end) of `length` rows that see the key, in training, where row i is at place i.
__device__ __forceinline__ int end_of_queries(int key, int length, const HeadShape& shape) {
  int end = length;
  if (shape.window > 0) end = min(end, key + shape.window);
  if (shape.chunk > 0) end = min(end, (key / shape.chunk + 1) * shape.chunk);
  return end;
}
__device__ __forceinline__ int64_t kv_row(const GpuSequence& s, const int32_t* pages, int r) {
  if (s.first_page < 0) return s.kv_start + r;
  return static_cast<int64_t>(pages[s.first_page + r / static_cast<int>(kKvPage)]) * kKvPage + r % kKvPage;
}

// A score after scale and cap, and what its gradient is multiplied by.
struct CappedScore {
  float score, slope;
};
__device__ __forceinline__ CappedScore capped(float dot, const HeadShape& shape) {
  const float s = dot * shape.scale;
  if (shape.softcap <= 0) return {s, shape.scale};
  const float t = tanhf(s / shape.softcap);
  return {shape.softcap * t, shape.scale * (1.0f - t * t)};
}

// On the matrix units (attention_tiles_cuda.cu, attention_tiles_backward_cuda.cu): whether they take it, and the ops.
bool takes_attention_tiles(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionBatch& batch, const AttentionShape& shape);
void attention_in_tiles(GpuStream& stream, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionBatch& batch, const AttentionShape& shape);
// delta [T, H] is there already.
void attention_backward_in_tiles(GpuStream& stream, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o,
                                 const Tensor& lse, const Tensor& delta, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const AttentionBatch& batch, const AttentionShape& shape);

}  // namespace loraine::cuda
