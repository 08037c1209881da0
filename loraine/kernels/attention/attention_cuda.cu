// Attention row by row on the GPU, for any type and width of heads, and for decoding over pages; and the choice between this and tiles on
// the matrix units. A block takes one row of one head; its warps take the rows of the other side in turn, 32 at a time, a row a lane, and
// are added up in a fixed order.
#include "loraine/core/error.h"
#include "loraine/kernels/attention/attention_rows_of.h"

namespace loraine::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr float kNothing = -INFINITY;

struct Sides {  // of one element type, whose vectors are whole or not
  int64_t q_stride, k_stride, v_stride, o_stride, lse_stride;
  bool whole;
};

// What a block works with: one row of this side in f32, and of each warp the weights of 32 rows of the other side, and its sums.
struct RowRoom {
  float first[kMostHeadDim], second[kMostHeadDim];
  float weight[kWarps][kWarp], second_weight[kWarps][kWarp];
  int64_t row[kWarps][kWarp];
  float most[kWarps], total[kWarps];
  float sums[kWarps][kMostHeadDim];
};

// Σ a·b of n elements; a in shared memory.
template <class T>
__device__ __forceinline__ float dot(const float* a, const T* b, int n, bool whole) {
  float sum = 0;
  int d = 0;
  if (whole) {
    ROLLED
    for (; d < n; d += 8) {
      float v[8];
      load_vector(v, b + d);
      UNROLL
      for (int i = 0; i < 8; ++i) sum += a[d + i] * v[i];
    }
  }
  ROLLED
  for (; d < n; ++d) sum += a[d] * to_float(b[d]);
  return sum;
}

template <class T>
__device__ __forceinline__ void take_row(float* to, const T* from, int n) {
  for (int d = static_cast<int>(threadIdx.x); d < n; d += kThreads) to[d] = to_float(from[d]);
}

// sums[i] += Σ weight[j] · rows[j][lane + 32 i], for the n rows of a warp's turn.
template <int kDims, class T>
__device__ __forceinline__ void add_rows(float (&sums)[kDims], const float* weight, const int64_t* row, int n, const T* rows,
                                         int64_t stride, int width, int lane) {
  ROLLED
  for (int j = 0; j < n; ++j) {
    const T* from = rows + row[j] * stride;
    UNROLL
    for (int i = 0; i < kDims; ++i)
      if (lane + kWarp * i < width) sums[i] += weight[j] * to_float(from[lane + kWarp * i]);
  }
}

// The warps' sums, added up in their order: element d of `width`.
__device__ __forceinline__ float sum_of_warps(const RowRoom& room, int d) {
  float sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += room.sums[w][d];
  return sum;
}
template <int kDims>
__device__ __forceinline__ void put_sums(RowRoom& room, const float (&sums)[kDims], int width, int warp, int lane) {
  UNROLL
  for (int i = 0; i < kDims; ++i)
    if (lane + kWarp * i < width) room.sums[warp][lane + kWarp * i] = sums[i];
}

template <int kDims, class T>
__global__ void __launch_bounds__(kThreads) attention_rows_kernel(AnyRows o, float* lse, const T* q, const T* k, const T* v, Sides sides,
                                                                  const GpuSequence* sequences, const int32_t* pages, HeadShape shape) {
  const GpuSequence s = sequences[blockIdx.z];
  const int i = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), kv_head = head / (shape.heads / shape.kv_heads);
  if (i >= s.length) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = s.start + i;
  const int place = s.kv_length - s.length + i, first = first_key_of(place, shape), last = place + 1;
  RowRoom& room = shared<RowRoom>();
  take_row(room.first, q + row * sides.q_stride + head * shape.D, shape.D);
  __syncthreads();
  float sums[kDims] = {}, most = kNothing, total = 0;
  ROLLED
  for (int key = first + warp * kWarp; key < last; key += kThreads) {
    const int n = min(kWarp, last - key);
    float score = kNothing;
    room.row[warp][lane] = kv_row(s, pages, lane < n ? key + lane : key);
    if (lane < n)
      score = capped(dot(room.first, k + room.row[warp][lane] * sides.k_stride + kv_head * shape.D, shape.D, sides.whole), shape).score;
    const float top = fmaxf(most, warp_max(score)), shrink = expf(most - top), p = lane < n ? expf(score - top) : 0.0f;
    total = total * shrink + warp_sum(p);
    most = top;
    room.weight[warp][lane] = p;
    __syncwarp();
    UNROLL
    for (int d = 0; d < kDims; ++d) sums[d] *= shrink;
    add_rows(sums, room.weight[warp], room.row[warp], n, v + kv_head * shape.V, sides.v_stride, shape.V, lane);
    __syncwarp();
  }
  if (lane == 0) room.most[warp] = most, room.total[warp] = total;
  put_sums(room, sums, shape.V, warp, lane);
  __syncthreads();
  most = shape.sinks ? shape.sinks[head] : kNothing;
  for (int w = 0; w < kWarps; ++w) most = fmaxf(most, room.most[w]);
  total = shape.sinks ? expf(shape.sinks[head] - most) : 0.0f;
  float share[kWarps];
  for (int w = 0; w < kWarps; ++w) {
    share[w] = expf(room.most[w] - most);
    total += share[w] * room.total[w];
  }
  for (int d = static_cast<int>(threadIdx.x); d < shape.V; d += kThreads) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += share[w] * room.sums[w][d];
    write_element(o, row, head * shape.V + d, sum / total);
  }
  if (lse && threadIdx.x == 0) lse[row * sides.lse_stride + head] = most + logf(total);
}

// delta[t, h] = Σ d_o · o: a warp a head.
template <class T, class O>
__global__ void __launch_bounds__(kThreads)
    attention_delta_kernel(float* delta, const T* d_o, int64_t d_o_stride, const O* o, int64_t o_stride, HeadShape shape) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = blockIdx.x;
  for (int head = warp; head < shape.heads; head += kWarps) {
    float sum = 0;
    for (int d = lane; d < shape.V; d += kWarp)
      sum += to_float(d_o[row * d_o_stride + head * shape.V + d]) * to_float(o[row * o_stride + head * shape.V + d]);
    sum = warp_sum(sum);
    if (lane == 0) delta[row * shape.heads + head] = sum;
  }
}

struct Gradient {  // what the backward reads beside q, k and v
  const float *lse, *delta;
  int64_t d_o_stride;
};

// d_q of one row of one head: over the keys it sees.
template <int kDims, class T>
__global__ void __launch_bounds__(kThreads) attention_d_q_kernel(AnyRows d_q, const T* d_o, const T* q, const T* k, const T* v, Sides sides,
                                                                 Gradient in, const GpuSequence* sequences, HeadShape shape) {
  const GpuSequence s = sequences[blockIdx.z];
  const int i = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), kv_head = head / (shape.heads / shape.kv_heads);
  if (i >= s.length) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = s.start + i;
  RowRoom& room = shared<RowRoom>();
  take_row(room.first, q + row * sides.q_stride + head * shape.D, shape.D);
  take_row(room.second, d_o + row * in.d_o_stride + head * shape.V, shape.V);
  __syncthreads();
  const float lse = in.lse[row * sides.lse_stride + head], delta = in.delta[row * shape.heads + head];
  float sums[kDims] = {};
  ROLLED
  for (int key = first_key_of(i, shape) + warp * kWarp; key <= i; key += kThreads) {
    const int n = min(kWarp, i + 1 - key);
    float weight = 0;
    const int64_t at = s.start + key + (lane < n ? lane : 0);
    if (lane < n) {
      const CappedScore c = capped(dot(room.first, k + at * sides.k_stride + kv_head * shape.D, shape.D, sides.whole), shape);
      const float d_p = dot(room.second, v + at * sides.v_stride + kv_head * shape.V, shape.V, sides.whole);
      weight = expf(c.score - lse) * (d_p - delta) * c.slope;
    }
    room.weight[warp][lane] = weight, room.row[warp][lane] = at;
    __syncwarp();
    add_rows(sums, room.weight[warp], room.row[warp], n, k + kv_head * shape.D, sides.k_stride, shape.D, lane);
    __syncwarp();
  }
  put_sums(room, sums, shape.D, warp, lane);
  __syncthreads();
  for (int d = static_cast<int>(threadIdx.x); d < shape.D; d += kThreads)
    write_element(d_q, row, head * shape.D + d, sum_of_warps(room, d));
}

// d_k and d_v of one row of one head of the keys: over the rows, of all heads of the group, that see it.
template <int kDims, class T>
__global__ void __launch_bounds__(kThreads, 1)  // without the 1 it spills
    attention_d_kv_kernel(AnyRows d_k, AnyRows d_v, const T* d_o, const T* q, const T* k, const T* v, Sides sides, Gradient in,
                          const GpuSequence* sequences, HeadShape shape) {
  const GpuSequence s = sequences[blockIdx.z];
  const int key = static_cast<int>(blockIdx.x), kv_head = static_cast<int>(blockIdx.y), group = shape.heads / shape.kv_heads;
  if (key >= s.length) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = s.start + key;
  RowRoom& room = shared<RowRoom>();
  take_row(room.first, k + row * sides.k_stride + kv_head * shape.D, shape.D);
  take_row(room.second, v + row * sides.v_stride + kv_head * shape.V, shape.V);
  __syncthreads();
  const int end = end_of_queries(key, s.length, shape);
  float of_k[kDims] = {}, of_v[kDims] = {};
  ROLLED
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    ROLLED
    for (int i = key + warp * kWarp; i < end; i += kThreads) {
      const int n = min(kWarp, end - i);
      float p = 0, d_s = 0;
      const int64_t at = s.start + i + (lane < n ? lane : 0);
      if (lane < n) {
        const CappedScore c = capped(dot(room.first, q + at * sides.q_stride + head * shape.D, shape.D, sides.whole), shape);
        const float d_p = dot(room.second, d_o + at * in.d_o_stride + head * shape.V, shape.V, sides.whole);
        p = expf(c.score - in.lse[at * sides.lse_stride + head]);
        d_s = p * (d_p - in.delta[at * shape.heads + head]) * c.slope;
      }
      room.weight[warp][lane] = p, room.second_weight[warp][lane] = d_s, room.row[warp][lane] = at;
      __syncwarp();
      add_rows(of_v, room.weight[warp], room.row[warp], n, d_o + head * shape.V, in.d_o_stride, shape.V, lane);
      add_rows(of_k, room.second_weight[warp], room.row[warp], n, q + head * shape.D, sides.q_stride, shape.D, lane);
      __syncwarp();
    }
  }
  put_sums(room, of_k, shape.D, warp, lane);
  __syncthreads();
  for (int d = static_cast<int>(threadIdx.x); d < shape.D; d += kThreads)
    write_element(d_k, row, kv_head * shape.D + d, sum_of_warps(room, d));
  __syncthreads();
  put_sums(room, of_v, shape.V, warp, lane);
  __syncthreads();
  for (int d = static_cast<int>(threadIdx.x); d < shape.V; d += kThreads)
    write_element(d_v, row, kv_head * shape.V + d, sum_of_warps(room, d));
}

// d_sinks[h] −= Σ e^(sink − lse) · delta over the rows of all sequences, in double and a fixed order.
struct SinkRoom {
  double sums[kThreads];
};
__global__ void __launch_bounds__(kThreads)
    attention_d_sinks_kernel(float* d_sinks, const float* lse, int64_t lse_stride, const float* delta, const GpuSequence* sequences,
                             int count, HeadShape shape) {
  SinkRoom& room = shared<SinkRoom>();
  const int head = static_cast<int>(blockIdx.x);
  double sum = 0;
  for (int n = 0; n < count; ++n)
    for (int i = static_cast<int>(threadIdx.x); i < sequences[n].length; i += kThreads) {
      const int64_t row = sequences[n].start + i;
      sum += static_cast<double>(expf(shape.sinks[head] - lse[row * lse_stride + head])) *
             static_cast<double>(delta[row * shape.heads + head]);
    }
  room.sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kThreads; ++i) sum += room.sums[i];
  d_sinks[head] -= static_cast<float>(sum);
}

// Calls f(number of sums a lane needs for heads of that width, a value of the type)
template <class F>
void with_dims(const Tensor& q, int64_t width, F&& f) {
  with_type(q, [&]<class T>(T of_q) {
    if (width <= 128) f(std::integral_constant<int, 4>(), of_q);
    else if (width <= 256) f(std::integral_constant<int, 8>(), of_q);
    else f(std::integral_constant<int, kMostHeadDim / kWarp>(), of_q);
  });
}

// Whether all rows of heads begin at 16 bytes and are whole vectors.
Sides sides_of(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& d_o,
               const AttentionShape& shape) {
  const bool whole = shape.head_dim % 8 == 0 && shape.value_width() % 8 == 0 && whole_vectors(q, k, v, d_o);
  return {q.row_stride, k.row_stride, v.row_stride, o.row_stride, lse.row_stride, whole};
}

void check_widths(const char* op, const AttentionShape& shape) {
  if (std::max(shape.head_dim, shape.value_width()) <= kMostHeadDim) return;
  throw Error(ErrorKind::unsupported,
              std::string(op) + ": heads of " + std::to_string(std::max(shape.head_dim, shape.value_width())) +
                  " columns; on the GPU they may have " + std::to_string(kMostHeadDim),
              "Run on the CPU (device: cpu).");
}

dim3 grid_of(const AttentionBatch& batch, int64_t heads) {
  return dim3(static_cast<unsigned>(batch.longest), static_cast<unsigned>(heads), static_cast<unsigned>(batch.count));
}
template <class T>
const T* data_of(const Tensor& t) {
  return static_cast<const T*>(t.data);
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

GpuSequences gpu_sequences(std::span<const Sequence> sequences) {
  GpuSequences out;
  for (const Sequence& s : sequences) {
    if (s.length == 0) continue;
    const int32_t first_page = s.pages ? static_cast<int32_t>(out.pages.size()) : -1;
    if (s.pages) out.pages.insert(out.pages.end(), s.pages, s.pages + (s.kv_length + kKvPage - 1) / kKvPage);
    out.sequences.push_back({static_cast<int32_t>(s.start), static_cast<int32_t>(s.length), static_cast<int32_t>(s.kv_start),
                             static_cast<int32_t>(s.kv_length), first_page});
    out.longest = std::max(out.longest, s.length);
  }
  return out;
}

double attended_pairs(const AttentionBatch& batch, const AttentionShape& shape) {
  double pairs = 0;
  for (const GpuSequence& s : batch.on_host)
    for (int64_t place = s.kv_length - s.length; place < s.kv_length; ++place) {
      int64_t first = shape.window > 0 ? std::max<int64_t>(0, place + 1 - shape.window) : 0;
      if (shape.chunk > 0) first = std::max(first, place / shape.chunk * shape.chunk);
      pairs += static_cast<double>(place + 1 - first);
    }
  return pairs;
}

void attention_cuda(GpuStream& stream, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                    const AttentionBatch& batch, const AttentionShape& shape) {
  check_widths("attention", shape);
  if (batch.count == 0) return;
  const double flops =
      stream.counts() ? 2 * attended_pairs(batch, shape) * static_cast<double>(shape.heads * (shape.head_dim + shape.value_width())) : 0;
  const bool in_tiles = takes_attention_tiles(q, k, v, batch, shape);
  stream.moves(bytes_in(o, lse, q, k, v), in_tiles ? flops : 0, in_tiles ? 0 : flops);
  if (in_tiles) return attention_in_tiles(stream, o, lse, q, k, v, batch, shape);
  with_dims(q, shape.value_width(), [&]<class Dims, class T>(Dims, T) {
    launch("attention_rows", attention_rows_kernel<Dims::value, T>, grid_of(batch, shape.heads), kThreads, sizeof(RowRoom), stream,
           any_rows(o), lse.data ? lse.f32() : nullptr, data_of<T>(q), data_of<T>(k), data_of<T>(v),
           sides_of(q, k, v, o, lse, Tensor(), shape), batch.sequences, batch.pages, head_shape(shape));
  });
}

void attention_backward_cuda(GpuStream& stream, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o,
                             const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionBatch& batch,
                             const AttentionShape& shape, const Tensor& delta, float* d_sinks) {
  check_widths("attention_backward", shape);
  if (batch.count == 0) return;
  const HeadShape heads = head_shape(shape);
  with_types(d_o, o, [&]<class T, class O>(T, O) {
    stream.moves(bytes_in(delta, d_o, o));
    launch("attention_delta", attention_delta_kernel<T, O>, static_cast<unsigned>(q.rows()), kThreads, 0, stream, delta.f32(),
           data_of<T>(d_o), d_o.row_stride, data_of<O>(o), o.row_stride, heads);
  });
  const double of_pair = stream.counts() ? 2 * attended_pairs(batch, shape) * static_cast<double>(shape.heads) : 0,
               of_d_q = of_pair * static_cast<double>(2 * shape.head_dim + shape.value_width()),
               of_d_kv = of_pair * static_cast<double>(2 * shape.head_dim + 2 * shape.value_width());  // scores and d_p once more
  const double in_bytes = bytes_in(d_o, lse, delta, q, k, v);
  if (takes_attention_tiles(q, k, v, batch, shape) && whole_vectors(d_o)) {
    attention_backward_in_tiles(stream, d_q, d_k, d_v, d_o, lse, delta, q, k, v, batch, shape);
  } else {
    const Sides sides = sides_of(q, k, v, o, lse, d_o, shape);
    const Gradient in{lse.f32(), delta.f32(), d_o.row_stride};
    with_dims(q, shape.head_dim, [&]<class Dims, class T>(Dims, T) {
      stream.moves(in_bytes + bytes_in(d_q), 0, of_d_q);
      launch("attention_d_q", attention_d_q_kernel<Dims::value, T>, grid_of(batch, shape.heads), kThreads, sizeof(RowRoom), stream,
             any_rows(d_q), data_of<T>(d_o), data_of<T>(q), data_of<T>(k), data_of<T>(v), sides, in, batch.sequences, heads);
    });
    with_dims(q, std::max(shape.head_dim, shape.value_width()), [&]<class Dims, class T>(Dims, T) {
      stream.moves(in_bytes + bytes_in(d_k, d_v), 0, of_d_kv);
      launch("attention_d_kv", attention_d_kv_kernel<Dims::value, T>, grid_of(batch, shape.kv_heads), kThreads, sizeof(RowRoom), stream,
             any_rows(d_k), any_rows(d_v), data_of<T>(d_o), data_of<T>(q), data_of<T>(k), data_of<T>(v), sides, in, batch.sequences, heads);
    });
  }
  if (!d_sinks) return;
  stream.moves(bytes_in(lse, delta));
  launch("attention_d_sinks", attention_d_sinks_kernel, static_cast<unsigned>(shape.heads), kThreads, sizeof(SinkRoom), stream, d_sinks,
         lse.f32(), lse.row_stride, delta.f32(), batch.sequences, static_cast<int>(batch.count), heads);
}

}  // namespace loraine
