// Eight columns a thread; sums over rows in two launches; a row of norms a thread.
#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/rows/columns_cuda.h"

namespace loraine::cuda {
namespace {

constexpr unsigned kColumnThreads = 256;
constexpr int64_t kDotRows = 64;  // that one block adds up

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256) scale_columns_kernel(Rows<Y> y, Rows<const X> x, const float* scale, int64_t C, bool accumulate) {
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * 8;
  if (c >= C) return;
  Y* row = y.data + blockIdx.x * y.stride;
  float v[8], factors[8], before[8] = {};
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);
  load_eight<kWhole>(factors, scale, c, C);
  if (accumulate) load_eight<kWhole>(before, row, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] = factors[i] * v[i] + (accumulate ? before[i] : 0.0f);
  store_eight<kWhole>(row, c, C, v);
}

__global__ void __launch_bounds__(kColumnThreads) column_dots_kernel(double* partial, AnyRows a, AnyRows b, int64_t T, int64_t C) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (c >= C) return;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kDotRows, end = first + kDotRows < T ? first + kDotRows : T;
  double sum = 0;
  for (int64_t t = first; t < end; ++t) sum += static_cast<double>(read_element(a, t, c)) * static_cast<double>(read_element(b, t, c));
  partial[static_cast<int64_t>(blockIdx.y) * C + c] = sum;
}

__global__ void __launch_bounds__(kColumnThreads)
    column_sums_kernel(float* d, const double* partial, const float* divisor, int64_t pieces, int64_t C) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (c >= C) return;
  double sum = 0;
  for (int64_t piece = 0; piece < pieces; ++piece) sum += partial[piece * C + c];
  d[c] += static_cast<float>(sum / static_cast<double>(divisor[c]));
}

__global__ void __launch_bounds__(kColumnThreads) row_squares_kernel(double* squares, AnyRows w, int64_t C) {
  double sum = 0;
  for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
    const auto x = static_cast<double>(read_element(w, blockIdx.x, c));
    sum += x * x;
  }
  sum = block_reduce(sum, shared<RoomOf<double>>(), [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kColumnThreads) sum_norms_kernel(SumNorms of, int64_t out, int64_t r) {
  const int64_t o = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (o >= out) return;
  double mixed = 0, own = 0;
  for (int64_t k = o * r; k < (o + 1) * r; ++k) {
    mixed += static_cast<double>(of.w_a[k]) * static_cast<double>(of.b[k]);
    own += static_cast<double>(of.b_a_a[k]) * static_cast<double>(of.b[k]);
  }
  const auto s = static_cast<double>(of.scale);
  const double square = of.squares[o] + 2 * s * mixed + s * s * own;
  const float norm = fmaxf(1e-30f, static_cast<float>(sqrt(square > 0 ? square : 0.0)));
  const float factor = of.magnitude[o] / norm;
  of.norm[o] = norm, of.factor[o] = factor, of.factor_less_one[o] = factor - 1;
}

unsigned column_blocks(int64_t n) { return static_cast<unsigned>((n + kColumnThreads - 1) / kColumnThreads); }
int64_t dot_pieces(int64_t T) { return (T + kDotRows - 1) / kDotRows; }

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void scale_columns_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const float* scale, bool accumulate) {
  const int64_t per_block = int64_t{row_threads(y.cols())} * 8;
  const dim3 grid(static_cast<unsigned>(y.rows()), static_cast<unsigned>((y.cols() + per_block - 1) / per_block));
  const bool whole = whole_vectors(y, x) && reinterpret_cast<uintptr_t>(scale) % 16 == 0;
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole ? scale_columns_kernel<true, Y, X> : scale_columns_kernel<false, Y, X>;
    stream.moves(bytes_in(y, x) + (accumulate ? bytes_in(y) : 0));
    launch("scale_columns", kernel, grid, row_threads(y.cols()), 0, stream, rows_of<Y>(y), rows_of<const X>(x), scale, y.cols(),
           accumulate);
  });
}

int64_t column_dots_room(int64_t T, int64_t C) { return dot_pieces(T) * C; }

void column_dots_cuda(GpuStream& stream, float* d, const Tensor& a, const Tensor& b, const float* divisor, double* partial) {
  const int64_t T = a.rows(), C = a.cols();
  const double sums = 8.0 * static_cast<double>(column_dots_room(T, C));
  stream.moves(bytes_in(a, b) + sums);
  launch("column_dots", column_dots_kernel, dim3(column_blocks(C), static_cast<unsigned>(dot_pieces(T))), kColumnThreads, 0, stream,
         partial, any_rows(a), any_rows(b), T, C);
  stream.moves(sums);
  launch("column_sums", column_sums_kernel, column_blocks(C), kColumnThreads, 0, stream, d, static_cast<const double*>(partial), divisor,
         dot_pieces(T), C);
}

void row_squares_cuda(GpuStream& stream, double* squares, const Tensor& w) {
  stream.moves(bytes_in(w));
  launch("row_squares", row_squares_kernel, static_cast<unsigned>(w.rows()), row_threads(w.cols()), sizeof(RoomOf<double>), stream, squares,
         any_rows(w), w.cols());
}

void sum_norms_cuda(GpuStream& stream, const SumNorms& of, int64_t out, int64_t r) {
  stream.moves(12.0 * static_cast<double>(out * r));
  launch("sum_norms", sum_norms_kernel, column_blocks(out), kColumnThreads, 0, stream, of, out, r);
}

}  // namespace loraine
