// Attention on the matrix units in the manner of FlashAttention 2 (Dao 2023): 64 query rows of one head a block, 16 of a warp; keys and
// values in tiles of 64, the next on its way while one is used; the softmax goes along in registers, whose sums become the left operand of
// the second product.
#include "loraine/kernels/attention/attention_rows_of.h"

namespace loraine::cuda {
namespace {

constexpr int kTileThreads = 128, kTileRows = 64, kTileKeys = 64;
constexpr float kFar = -3e38f;  // a score that is not seen

template <int D>
struct Tiles {  // rows of D + 8: those of one ldmatrix lie in different banks
  Bf16 q[kTileRows][D + 8], k[2][kTileKeys][D + 8], v[2][kTileKeys][D + 8];
};

struct TileStrides {
  int64_t q, k, v, lse;
};

// Rows [first, first + 64) of a head's columns into shared memory; those from `end` on as zeros.
template <int D>
__device__ __forceinline__ void fetch_tile(Bf16 (*to)[D + 8], const Bf16* from, int64_t stride, int first, int end) {
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * (D / 8); i += kTileThreads) {
    const int row = i / (D / 8), c = i % (D / 8) * 8;
    const bool there = first + row < end;
    copy_async16(&to[row][c], from + (there ? (first + row) * stride + c : 0), there ? 16 : 0);
  }
}

// [16, 8 kColumns] += rows of a (left operand, in registers) times rows of b: d[n] holds columns 8 n …
template <int kDepth>
__device__ __forceinline__ void load_left(uint32_t (&left)[kDepth / 16][4], const Bf16 (*rows)[kDepth + 8], int first, int lane) {
  UNROLL
  for (int d = 0; d < kDepth; d += 16) load_matrices<false>(left[d / 16], &rows[first + lane % 16][d + lane / 16 * 8]);
}

template <int D>
__global__ void __launch_bounds__(kTileThreads) attention_tiles_kernel(AnyRows o, float* lse, const Bf16* q, const Bf16* k, const Bf16* v,
                                                                       TileStrides strides, const GpuSequence* sequences, HeadShape shape) {
  const GpuSequence s = sequences[blockIdx.z];
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (shape.heads / shape.kv_heads);
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTileRows;  // rows that see most first
  if (first >= s.length) return;
  Tiles<D>& tiles = shared<Tiles<D>>();
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp, past = s.kv_length - s.length;
  const Bf16* keys = k + s.kv_start * strides.k + kv_head * D;
  const Bf16* values = v + s.kv_start * strides.v + kv_head * D;
  const int last_key = past + min(s.length, first + kTileRows), first_key = first_key_of(past + first, shape) / kTileKeys * kTileKeys;
  fetch_tile<D>(tiles.q, q + s.start * strides.q + head * D, strides.q, first, s.length);
  fetch_tile<D>(tiles.k[0], keys, strides.k, first_key, last_key);
  fetch_tile<D>(tiles.v[0], values, strides.v, first_key, last_key);
  copy_commit();
  const int row0 = first + warp * 16 + lane / 4;  // this lane has rows row0 and row0 + 8
  float sums[D / 8][4] = {}, most[2] = {kFar, kFar}, total[2] = {0, 0};
  uint32_t left[D / 16][4];
  int stage = 0;
  for (int key = first_key; key < last_key; key += kTileKeys, stage ^= 1) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other any more
    if (key + kTileKeys < last_key) {
      fetch_tile<D>(tiles.k[stage ^ 1], keys, strides.k, key + kTileKeys, last_key);
      fetch_tile<D>(tiles.v[stage ^ 1], values, strides.v, key + kTileKeys, last_key);
    }
    copy_commit();
    if (key == first_key) load_left<D>(left, tiles.q, warp * 16, lane);
    float scores[kTileKeys / 8][4] = {};
    UNROLL
    for (int d = 0; d < D; d += 16) {
      UNROLL
      for (int n = 0; n < kTileKeys; n += 16) {
        uint32_t right[4];
        load_matrices<false>(right, &tiles.k[stage][n + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
        mma_m16n8k16(scores[n / 8], left[d / 16], right[0], right[1]);
        mma_m16n8k16(scores[n / 8 + 1], left[d / 16], right[2], right[3]);
      }
    }
    UNROLL
    for (int half = 0; half < 2; ++half) {
      const int place = past + row0 + 8 * half, seen_from = first_key_of(place, shape);
      float top = most[half];
      UNROLL
      for (int n = 0; n < kTileKeys / 8; ++n) {
        UNROLL
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          const int column = key + n * 8 + lane % 4 * 2 + i % 2;
          const bool seen = column <= place && column >= seen_from && column < last_key;
          scores[n][i] = seen ? capped(scores[n][i], shape).score : kFar;
          top = fmaxf(top, scores[n][i]);
        }
      }
      top = fmaxf(top, shuffle_xor(top, 1));
      top = fmaxf(top, shuffle_xor(top, 2));
      const float shrink = expf(most[half] - top);
      float sum = 0;
      UNROLL
      for (int n = 0; n < kTileKeys / 8; ++n) {
        UNROLL
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = scores[n][i] <= 0.5f * kFar ? 0.0f : expf(scores[n][i] - top);
          sum += scores[n][i];
        }
      }
      total[half] = total[half] * shrink + sum;
      most[half] = top;
      UNROLL
      for (int d = 0; d < D / 8; ++d) sums[d][2 * half] *= shrink, sums[d][2 * half + 1] *= shrink;
    }
    UNROLL
    for (int n = 0; n < kTileKeys; n += 16) {
      const float *a = scores[n / 8], *b = scores[n / 8 + 1];
      const uint32_t p[4] = {pack_bf16(a[0], a[1]), pack_bf16(a[2], a[3]), pack_bf16(b[0], b[1]), pack_bf16(b[2], b[3])};
      UNROLL
      for (int d = 0; d < D; d += 16) {
        uint32_t right[4];
        load_matrices<true>(right, &tiles.v[stage][n + lane % 16][d + lane / 16 * 8]);
        mma_m16n8k16(sums[d / 8], p, right[0], right[1]);
        mma_m16n8k16(sums[d / 8 + 1], p, right[2], right[3]);
      }
    }
  }
  copy_wait<0>();
  UNROLL
  for (int half = 0; half < 2; ++half) {
    float all = total[half];
    all += shuffle_xor(all, 1);
    all += shuffle_xor(all, 2);
    float top = most[half], share = 1;
    if (shape.sinks) {
      top = fmaxf(top, shape.sinks[head]);
      share = expf(most[half] - top);
      all = all * share + expf(shape.sinks[head] - top);
    }
    const int i = row0 + 8 * half;
    if (i >= s.length) continue;
    const int64_t row = s.start + i;
    const float factor = share / all;
    UNROLL
    for (int d = 0; d < D / 8; ++d) {
      write_element(o, row, head * D + d * 8 + lane % 4 * 2, sums[d][2 * half] * factor);
      write_element(o, row, head * D + d * 8 + lane % 4 * 2 + 1, sums[d][2 * half + 1] * factor);
    }
    if (lse && lane % 4 == 0) lse[row * strides.lse + head] = top + logf(all);
  }
}

}  // namespace

bool takes_attention_tiles(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionBatch& batch, const AttentionShape& shape) {
  constexpr int64_t kFewRows = 4;  // decoding: the rows' kernel reads keys and values once
  return q.dtype == Dtype::BF16 && shape.head_dim == shape.value_width() && (shape.head_dim == 64 || shape.head_dim == 128) &&
         !batch.pages && batch.longest > kFewRows && whole_vectors(q, k, v);
}

void attention_in_tiles(GpuStream& stream, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionBatch& batch, const AttentionShape& shape) {
  const dim3 grid(static_cast<unsigned>((batch.longest + kTileRows - 1) / kTileRows), static_cast<unsigned>(shape.heads),
                  static_cast<unsigned>(batch.count));
  auto go = [&](auto kernel, size_t bytes) {
    launch("attention_tiles", kernel, grid, kTileThreads, bytes, stream, any_rows(o), lse.data ? lse.f32() : nullptr,
           static_cast<const Bf16*>(q.data), static_cast<const Bf16*>(k.data), static_cast<const Bf16*>(v.data),
           TileStrides{q.row_stride, k.row_stride, v.row_stride, lse.row_stride}, batch.sequences, head_shape(shape));
  };
  if (shape.head_dim == 64) go(attention_tiles_kernel<64>, sizeof(Tiles<64>));
  else go(attention_tiles_kernel<128>, sizeof(Tiles<128>));
}

}  // namespace loraine::cuda
