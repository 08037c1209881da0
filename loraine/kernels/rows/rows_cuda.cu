// Small memory-bound ops on the GPU, eight elements a thread.
#include <cmath>
#include <unordered_map>

#include "loraine/kernels/base/random_bits.h"
#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/rows/rows_cuda.h"

namespace loraine::cuda {
namespace {

__device__ __forceinline__ int64_t first_column() { return (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * 8; }

template <bool kWhole, class Y, class A, class B>
__global__ void __launch_bounds__(256) add_kernel(Rows<Y> y, Rows<const A> a, Rows<const B> b, int64_t C) {
  const int64_t c = first_column();
  if (c >= C) return;
  float v[8], w[8];
  load_eight<kWhole>(v, a.data + blockIdx.x * a.stride, c, C);
  load_eight<kWhole>(w, b.data + blockIdx.x * b.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] += w[i];
  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C, v);
}

// Row blockIdx.x of y from row from[blockIdx.x] of x, to row to[blockIdx.x]; nullptr: the same one.
template <bool kWhole, class Y, class X, class From, class To>
__global__ void __launch_bounds__(256) move_rows_kernel(Rows<Y> y, Rows<const X> x, const From* from, const To* to, int64_t C) {
  const int64_t c = first_column();
  if (c >= C) return;
  const int64_t row_in = from ? static_cast<int64_t>(from[blockIdx.x]) : blockIdx.x,
                row_out = to ? static_cast<int64_t>(to[blockIdx.x]) : blockIdx.x;
  float v[8];
  load_eight<kWhole>(v, x.data + row_in * x.stride, c, C);
  store_eight<kWhole>(y.data + row_out * y.stride, c, C, v);
}

template <class X>
__global__ void __launch_bounds__(256) half_embedding_kernel(Rows<X> y, Rows<const Half> table, const int32_t* tokens, int64_t C) {
  const int64_t c = first_column();
  const Half* row = table.data + tokens[blockIdx.x] * table.stride;
  for (int64_t i = c; i < C && i < c + 8; ++i) from_float(y.data[blockIdx.x * y.stride + i], to_float(row[i]));
}

// random_bits.h has the same for the CPU.
__device__ __forceinline__ uint64_t mixed(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

struct DropoutShape {
  uint64_t site, threshold;
  float scale;
};
// Of the first element of this block's row.
__device__ __forceinline__ uint64_t row_key(const DropoutStep& at, uint64_t site, int64_t C) {
  return mixed(mixed(mixed(at.seed + kGoldenRatio) + at.step * kGoldenRatio) + site * kGoldenRatio) + blockIdx.x * C * kGoldenRatio;
}

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256) dropout_kernel(Rows<Y> y, Rows<const X> x, const DropoutStep* at, int64_t C, DropoutShape shape) {
  const int64_t c = first_column();
  if (c >= C) return;
  const uint64_t key = row_key(*at, shape.site, C);
  float v[8];
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) {
    const uint64_t bits = mixed(key + static_cast<uint64_t>(c + i) * kGoldenRatio) >> 32;
    v[i] = bits >= shape.threshold ? v[i] * shape.scale : 0.0f;
  }
  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C, v);
}

template <bool kWhole>
__global__ void __launch_bounds__(256) noise_kernel(Rows<float> y, const DropoutStep* at, int64_t C, uint64_t site) {
  const int64_t c = first_column();
  if (c >= C) return;
  const uint64_t key = row_key(*at, site, C);
  const float size = at->noise, cell = size * 0x1p-23f;
  float v[8];
  load_eight<kWhole>(v, y.data + blockIdx.x * y.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) {
    const uint64_t bits = mixed(key + static_cast<uint64_t>(c + i) * kGoldenRatio) >> 40;
    v[i] += (static_cast<float>(bits) + 0.5f) * cell - size;
  }
  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C, v);
}

// A group of rows and 256 columns a block, a column a thread.
__global__ void __launch_bounds__(256) embedding_gradient_kernel(Rows<float> d_table, Rows<const float> d_y, const int32_t* tokens,
                                                                 const int32_t* starts, const int32_t* rows, int64_t C) {
  const int64_t c = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (c >= C) return;
  float* to = d_table.data + tokens[blockIdx.x] * d_table.stride + c;
  float sum = *to;
  for (int32_t i = starts[blockIdx.x]; i < starts[blockIdx.x + 1]; ++i) sum += d_y.data[rows[i] * d_y.stride + c];
  *to = sum;
}

struct Best {  // and the first column where it is
  float value;
  int32_t column;
};
template <class X>
__global__ void __launch_bounds__(256) argmax_kernel(int32_t* best, Rows<const X> x, int64_t C) {
  const X* row = x.data + blockIdx.x * x.stride;
  auto better = [](Best a, Best b) { return b.value > a.value || (b.value == a.value && b.column < a.column) ? b : a; };
  Best found{-INFINITY, INT32_MAX};
  for (int64_t c = threadIdx.x; c < C; c += blockDim.x) found = better(found, {to_float(row[c]), static_cast<int32_t>(c)});
  found = block_reduce(found, shared<RoomOf<Best>>(), better);
  if (threadIdx.x == 0) best[blockIdx.x] = found.column < C ? found.column : 0;  // a row of NaN: the first
}

dim3 grid_of(int64_t rows, int64_t C, int64_t each) {
  const int64_t per_block = int64_t{row_threads(C)} * each;
  return dim3(static_cast<unsigned>(rows), static_cast<unsigned>((C + per_block - 1) / per_block));
}

template <class From, class To>
void move_rows(const char* name, GpuStream& stream, const Tensor& y, const Tensor& x, const From* from, const To* to, int64_t rows) {
  stream.moves(static_cast<double>(rows * x.cols()) * static_cast<double>(size_of(x.dtype) + size_of(y.dtype)));
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x) ? move_rows_kernel<true, Y, X, From, To> : move_rows_kernel<false, Y, X, From, To>;
    launch(name, kernel, grid_of(rows, x.cols(), 8), row_threads(x.cols()), 0, stream, rows_of<Y>(y), rows_of<const X>(x), from, to,
           x.cols());
  });
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void add_cuda(GpuStream& stream, const Tensor& y, const Tensor& a, const Tensor& b) {
  with_types(a, b, [&]<class A, class B>(A, B) {
    with_type(y, [&]<class Y>(Y) {
      auto kernel = whole_vectors(y, a, b) ? add_kernel<true, Y, A, B> : add_kernel<false, Y, A, B>;
      stream.moves(bytes_in(y, a) + (b.row_stride > 0 ? bytes_in(b) : bytes_in(b.row_range(0, 1))));
      launch("add", kernel, grid_of(y.rows(), y.cols(), 8), row_threads(y.cols()), 0, stream, rows_of<Y>(y), rows_of<const A>(a),
             rows_of<const B>(b), y.cols());
    });
  });
}

void add_bias_cuda(GpuStream& stream, const Tensor& y, const float* bias) {
  Tensor row(const_cast<float*>(bias), Dtype::F32, {1, y.cols()});
  row.row_stride = 0;  // the same one under every row
  add_cuda(stream, y, y, row);
}

void convert_rows_cuda(GpuStream& stream, const Tensor& y, const Tensor& x) {
  const int64_t* none = nullptr;
  move_rows("convert_rows", stream, y, x, none, none, x.rows());
}

void embedding_cuda(GpuStream& stream, const Tensor& y, const Tensor& table, const int32_t* tokens) {
  if (table.dtype != Dtype::F16) {
    const int64_t* none = nullptr;
    return move_rows("embedding", stream, y, table, tokens, none, y.rows());
  }
  with_type(y, [&]<class Y>(Y) {
    stream.moves(static_cast<double>(y.numel()) * static_cast<double>(size_of(y.dtype) + 2));
    launch("embedding", half_embedding_kernel<Y>, grid_of(y.rows(), y.cols(), 8), row_threads(y.cols()), 0, stream, rows_of<Y>(y),
           rows_of<const Half>(table), tokens, y.cols());
  });
}

void gather_rows_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const int64_t* rows) {
  const int64_t* none = nullptr;
  move_rows("gather_rows", stream, y, x, rows, none, y.rows());
}

void put_rows_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const int64_t* rows) {
  const int64_t* none = nullptr;
  move_rows("put_rows", stream, y, x, none, rows, x.rows());
}

void dropout_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float p, const DropoutStep* step, uint64_t site) {
  const DropoutShape shape{site, static_cast<uint64_t>(std::ldexp(static_cast<double>(p), 32)), 1.0f / (1.0f - p)};
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x) ? dropout_kernel<true, Y, X> : dropout_kernel<false, Y, X>;
    stream.moves(bytes_in(y, x));
    launch("dropout", kernel, grid_of(x.rows(), x.cols(), 8), row_threads(x.cols()), 0, stream, rows_of<Y>(y), rows_of<const X>(x), step,
           x.cols(), shape);
  });
}

void add_noise_cuda(GpuStream& stream, const Tensor& y, const DropoutStep* step, uint64_t site) {
  auto kernel = whole_vectors(y, y) ? noise_kernel<true> : noise_kernel<false>;
  stream.moves(2 * bytes_in(y));
  launch("add_noise", kernel, grid_of(y.rows(), y.cols(), 8), row_threads(y.cols()), 0, stream, rows_of<float>(y), step, y.cols(), site);
}

RowsByToken rows_by_token(std::span<const int32_t> tokens) {
  RowsByToken out;
  std::unordered_map<int32_t, size_t> group_of;
  std::vector<std::vector<int32_t>> groups;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto [at, is_new] = group_of.try_emplace(tokens[t], groups.size());
    if (is_new) groups.emplace_back(), out.tokens.push_back(tokens[t]);
    groups[at->second].push_back(static_cast<int32_t>(t));
  }
  for (const std::vector<int32_t>& group : groups) {
    out.starts.push_back(static_cast<int32_t>(out.rows.size()));
    out.rows.insert(out.rows.end(), group.begin(), group.end());
  }
  out.starts.push_back(static_cast<int32_t>(out.rows.size()));
  return out;
}

void embedding_gradient_cuda(GpuStream& stream, const Tensor& d_table, const Tensor& d_y, const int32_t* tokens, const int32_t* starts,
                             const int32_t* rows, int64_t groups) {
  if (groups == 0) return;
  stream.moves(bytes_in(d_y) + 8.0 * static_cast<double>(groups * d_y.cols()));
  launch("embedding_gradient", embedding_gradient_kernel, grid_of(groups, d_y.cols(), 1), row_threads(d_y.cols()), 0, stream,
         rows_of<float>(d_table), rows_of<const float>(d_y), tokens, starts, rows, d_y.cols());
}

void argmax_rows_cuda(GpuStream& stream, int32_t* best, const Tensor& x) {
  with_type(x, [&]<class X>(X) {
    stream.moves(bytes_in(x));
    launch("argmax_rows", argmax_kernel<X>, static_cast<unsigned>(x.rows()), row_threads(x.cols()), sizeof(RoomOf<Best>), stream, best,
           rows_of<const X>(x), x.cols());
  });
}

}  // namespace loraine
