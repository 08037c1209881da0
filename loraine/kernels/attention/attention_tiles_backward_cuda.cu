// The gradient of attention on the matrix units, without sums that depend on who comes first: one launch by tiles of query rows for d_q,
// one by tiles of keys for d_k and d_v (FlashAttention 2, Dao 2023, computes both in one and adds d_q by atomics). A block has 64 rows of
// its own side, 16 of a warp, and goes over the other side in tiles of 32, the next on its way while one is used.
#include "loraine/kernels/attention/attention_rows_of.h"

namespace loraine::cuda {
namespace {

constexpr int kBackThreads = 128, kOwnRows = 64, kOtherRows = 32;

// Of d_q: own are q and d_o, other are k and v. Of d_k and d_v: own are k and v, other are q and d_o.
template <int D>
struct BackTiles {  // rows of D + 8: those of one ldmatrix lie in different banks
  Bf16 own[2][kOwnRows][D + 8], other[2][2][kOtherRows][D + 8];
  float lse[2][kOtherRows], delta[2][kOtherRows];  // of other query rows
};

// Rows [first, first + kRows) of a head; those from `end` on as zeros.
template <int D, int kRows>
__device__ __forceinline__ void fetch_rows(Bf16 (*to)[D + 8], const Bf16* from, int64_t stride, int first, int end) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * (D / 8); i += kBackThreads) {
    const int row = i / (D / 8), c = i % (D / 8) * 8;
    const bool there = first + row < end;
    copy_async16(&to[row][c], from + (there ? (first + row) * stride + c : 0), there ? 16 : 0);
  }
}

// out [16, 32] = rows of this warp times all rows of a tile
template <int D>
__device__ __forceinline__ void multiply_tile(float (&out)[kOtherRows / 8][4], const Bf16 (*own)[D + 8], const Bf16 (*other)[D + 8],
                                              int warp, int lane) {
  UNROLL
  for (int d = 0; d < D; d += 16) {
    uint32_t left[4];
    load_matrices<false>(left, &own[warp * 16 + lane % 16][d + lane / 16 * 8]);
    UNROLL
    for (int n = 0; n < kOtherRows; n += 16) {
      uint32_t right[4];
      load_matrices<false>(right, &other[n + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
      mma_m16n8k16(out[n / 8], left, right[0], right[1]);
      mma_m16n8k16(out[n / 8 + 1], left, right[2], right[3]);
    }
  }
}

// sums [16, D] += weights [16, 32] (rounded to bf16) times the rows of a tile
template <int D>
__device__ __forceinline__ void add_product(float (&sums)[D / 8][4], const float (&weights)[kOtherRows / 8][4], const Bf16 (*other)[D + 8],
                                            int lane) {
  UNROLL
  for (int n = 0; n < kOtherRows; n += 16) {
    const float *a = weights[n / 8], *b = weights[n / 8 + 1];
    const uint32_t left[4] = {pack_bf16(a[0], a[1]), pack_bf16(a[2], a[3]), pack_bf16(b[0], b[1]), pack_bf16(b[2], b[3])};
    UNROLL
    for (int d = 0; d < D; d += 16) {
      uint32_t right[4];
      load_matrices<true>(right, &other[n + lane % 16][d + lane / 16 * 8]);
      mma_m16n8k16(sums[d / 8], left, right[0], right[1]);
      mma_m16n8k16(sums[d / 8 + 1], left, right[2], right[3]);
    }
  }
}

template <int D>
__device__ __forceinline__ void write_sums(const AnyRows& out, const float (&sums)[D / 8][4], int64_t start, int row0, int length,
                                           int column, int lane) {
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const int row = row0 + i / 2 * 8;
    if (row >= length) continue;
    UNROLL
    for (int d = 0; d < D / 8; ++d) write_element(out, start + row, column + d * 8 + lane % 4 * 2 + i % 2, sums[d][i]);
  }
}

__device__ __forceinline__ bool sees(int query, int key, int length, const HeadShape& shape) {
  return query < length && key <= query && key >= first_key_of(query, shape);
}

struct BackStrides {
  int64_t q, k, v, d_o, lse;
};

template <int D>
__global__ void __launch_bounds__(kBackThreads)
    attention_tiles_d_q_kernel(AnyRows d_q, const Bf16* d_o, const float* lse, const float* delta, const Bf16* q, const Bf16* k,
                               const Bf16* v, BackStrides strides, const GpuSequence* sequences, HeadShape shape) {
  const GpuSequence s = sequences[blockIdx.z];
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (shape.heads / shape.kv_heads);
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kOwnRows;  // rows that see most first
  if (first >= s.length) return;
  BackTiles<D>& tiles = shared<BackTiles<D>>();
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp, row0 = first + warp * 16 + lane / 4;
  const Bf16 *keys = k + s.start * strides.k + kv_head * D, *values = v + s.start * strides.v + kv_head * D;
  const int end = min(s.length, first + kOwnRows), first_key = first_key_of(first, shape) / kOtherRows * kOtherRows;
  auto fetch = [&](int stage, int key) {
    if (key < end) {
      fetch_rows<D, kOtherRows>(tiles.other[stage][0], keys, strides.k, key, end);
      fetch_rows<D, kOtherRows>(tiles.other[stage][1], values, strides.v, key, end);
    }
    copy_commit();
  };
  fetch_rows<D, kOwnRows>(tiles.own[0], q + s.start * strides.q + head * D, strides.q, first, end);
  fetch_rows<D, kOwnRows>(tiles.own[1], d_o + s.start * strides.d_o + head * D, strides.d_o, first, end);
  fetch(0, first_key);
  float of_lse[2] = {}, of_delta[2] = {};
  for (int half = 0; half < 2; ++half) {
    const int64_t row = s.start + row0 + 8 * half;
    if (row0 + 8 * half < s.length) of_lse[half] = lse[row * strides.lse + head], of_delta[half] = delta[row * shape.heads + head];
  }
  float sums[D / 8][4] = {};
  int stage = 0;
  for (int key = first_key; key < end; key += kOtherRows, stage ^= 1) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other any more
    fetch(stage ^ 1, key + kOtherRows);
    float scores[kOtherRows / 8][4] = {}, d_s[kOtherRows / 8][4] = {};
    multiply_tile<D>(scores, tiles.own[0], tiles.other[stage][0], warp, lane);
    multiply_tile<D>(d_s, tiles.own[1], tiles.other[stage][1], warp, lane);
    UNROLL
    for (int n = 0; n < kOtherRows / 8; ++n) {
      UNROLL
      for (int i = 0; i < 4; ++i) {
        const int query = row0 + i / 2 * 8, column = key + n * 8 + lane % 4 * 2 + i % 2;
        const CappedScore c = capped(scores[n][i], shape);
        d_s[n][i] = sees(query, column, s.length, shape) ? expf(c.score - of_lse[i / 2]) * (d_s[n][i] - of_delta[i / 2]) * c.slope : 0.0f;
      }
    }
    add_product<D>(sums, d_s, tiles.other[stage][0], lane);
  }
  copy_wait<0>();
  write_sums<D>(d_q, sums, s.start, row0, s.length, head * D, lane);
}

template <int D>
__global__ void __launch_bounds__(kBackThreads)
    attention_tiles_d_kv_kernel(AnyRows d_k, AnyRows d_v, const Bf16* d_o, const float* lse, const float* delta, const Bf16* q,
                                const Bf16* k, const Bf16* v, BackStrides strides, const GpuSequence* sequences, HeadShape shape) {
  const GpuSequence s = sequences[blockIdx.z];
  const int kv_head = static_cast<int>(blockIdx.y), group = shape.heads / shape.kv_heads, first = static_cast<int>(blockIdx.x) * kOwnRows;
  if (first >= s.length) return;
  BackTiles<D>& tiles = shared<BackTiles<D>>();
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp, row0 = first + warp * 16 + lane / 4;
  const int last_key = min(s.length, first + kOwnRows) - 1, end = end_of_queries(last_key, s.length, shape);
  const int turns = (end - first + kOtherRows - 1) / kOtherRows, steps = turns * group;  // of each head of the group, one after the other
  auto fetch = [&](int step) {
    if (step < steps) {
      const int stage = step % 2, head = kv_head * group + step / turns, row = first + step % turns * kOtherRows;
      fetch_rows<D, kOtherRows>(tiles.other[stage][0], q + s.start * strides.q + head * D, strides.q, row, end);
      fetch_rows<D, kOtherRows>(tiles.other[stage][1], d_o + s.start * strides.d_o + head * D, strides.d_o, row, end);
      if (threadIdx.x < kOtherRows) {
        const int query = row + static_cast<int>(threadIdx.x);
        const int64_t at = s.start + query;
        tiles.lse[stage][threadIdx.x] = query < end ? lse[at * strides.lse + head] : 0.0f;
        tiles.delta[stage][threadIdx.x] = query < end ? delta[at * shape.heads + head] : 0.0f;
      }
    }
    copy_commit();
  };
  fetch_rows<D, kOwnRows>(tiles.own[0], k + s.start * strides.k + kv_head * D, strides.k, first, s.length);
  fetch_rows<D, kOwnRows>(tiles.own[1], v + s.start * strides.v + kv_head * D, strides.v, first, s.length);
  fetch(0);
  float of_k[D / 8][4] = {}, of_v[D / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    const int stage = step % 2, row = first + step % turns * kOtherRows;
    copy_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other any more
    fetch(step + 1);
    float p[kOtherRows / 8][4] = {}, d_s[kOtherRows / 8][4] = {};  // keys by queries
    multiply_tile<D>(p, tiles.own[0], tiles.other[stage][0], warp, lane);
    multiply_tile<D>(d_s, tiles.own[1], tiles.other[stage][1], warp, lane);
    UNROLL
    for (int n = 0; n < kOtherRows / 8; ++n) {
      UNROLL
      for (int i = 0; i < 4; ++i) {
        const int key = row0 + i / 2 * 8, column = n * 8 + lane % 4 * 2 + i % 2;
        const CappedScore c = capped(p[n][i], shape);
        p[n][i] = sees(row + column, key, s.length, shape) ? expf(c.score - tiles.lse[stage][column]) : 0.0f;
        d_s[n][i] = p[n][i] * (d_s[n][i] - tiles.delta[stage][column]) * c.slope;
      }
    }
    add_product<D>(of_v, p, tiles.other[stage][1], lane);
    add_product<D>(of_k, d_s, tiles.other[stage][0], lane);
  }
  copy_wait<0>();
  write_sums<D>(d_k, of_k, s.start, row0, s.length, kv_head * D, lane);
  write_sums<D>(d_v, of_v, s.start, row0, s.length, kv_head * D, lane);
}

}  // namespace

void attention_backward_in_tiles(GpuStream& stream, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o,
                                 const Tensor& lse, const Tensor& delta, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const AttentionBatch& batch, const AttentionShape& shape) {
  const HeadShape heads = head_shape(shape);
  const BackStrides strides{q.row_stride, k.row_stride, v.row_stride, d_o.row_stride, lse.row_stride};
  auto grid = [&](int64_t of_heads) {
    return dim3(static_cast<unsigned>((batch.longest + kOwnRows - 1) / kOwnRows), static_cast<unsigned>(of_heads),
                static_cast<unsigned>(batch.count));
  };
  auto data = [](const Tensor& t) { return static_cast<const Bf16*>(t.data); };
  auto go = [&](auto of_q, auto of_kv, size_t bytes) {
    const double pair = stream.counts() ? 2 * attended_pairs(batch, shape) * static_cast<double>(shape.heads * shape.head_dim) : 0,
                 in_bytes = bytes_in(d_o, lse, delta, q, k, v);
    stream.moves(in_bytes + bytes_in(d_q), 3 * pair);  // scores, d_p and d_q
    launch("attention_tiles_d_q", of_q, grid(shape.heads), kBackThreads, bytes, stream, any_rows(d_q), data(d_o), lse.f32(), delta.f32(),
           data(q), data(k), data(v), strides, batch.sequences, heads);
    stream.moves(in_bytes + bytes_in(d_k, d_v), 4 * pair);  // scores and d_p once more, d_k and d_v
    launch("attention_tiles_d_kv", of_kv, grid(shape.kv_heads), kBackThreads, bytes, stream, any_rows(d_k), any_rows(d_v), data(d_o),
           lse.f32(), delta.f32(), data(q), data(k), data(v), strides, batch.sequences, heads);
  };
  if (shape.head_dim == 64) go(attention_tiles_d_q_kernel<64>, attention_tiles_d_kv_kernel<64>, sizeof(BackTiles<64>));
  else go(attention_tiles_d_q_kernel<128>, attention_tiles_d_kv_kernel<128>, sizeof(BackTiles<128>));
}

}  // namespace loraine::cuda
