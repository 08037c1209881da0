// Eight elements a thread.
#include <cmath>

#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/rows/scaled_cuda.h"

namespace loraine::cuda {
namespace {

__device__ __forceinline__ int64_t scaled_column() { return (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * 8; }

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256) scale_kernel(Rows<Y> y, Rows<const X> x, int64_t C, float factor) {
  const int64_t c = scaled_column();
  if (c >= C) return;
  float v[8];
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] *= factor;
  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C, v);
}

template <bool kWhole, class X>
__global__ void __launch_bounds__(256) scale_rows_kernel(Rows<X> x, const float* factors, int64_t C) {
  const int64_t c = scaled_column();
  if (c >= C) return;
  const float factor = factors[blockIdx.x];
  float v[8];
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] *= factor;
  store_eight<kWhole>(x.data + blockIdx.x * x.stride, c, C, v);
}

template <bool kWhole>
__global__ void __launch_bounds__(256) soft_cap_kernel(Rows<float> y, Rows<const float> x, int64_t C, float cap) {
  const int64_t c = scaled_column();
  if (c >= C) return;
  float v[8];
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] = cap * tanhf(v[i] / cap);
  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C, v);
}

template <bool kWhole, class D>
__global__ void __launch_bounds__(256) soft_cap_backward_kernel(Rows<D> d, Rows<const float> y, int64_t C, float cap) {
  const int64_t c = scaled_column();
  if (c >= C) return;
  float v[8], w[8];
  load_eight<kWhole>(v, d.data + blockIdx.x * d.stride, c, C);
  load_eight<kWhole>(w, y.data + blockIdx.x * y.stride, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) {
    const float t = w[i] / cap;
    v[i] *= 1.0f - t * t;
  }
  store_eight<kWhole>(d.data + blockIdx.x * d.stride, c, C, v);
}

dim3 scaled_grid(const Tensor& t) {
  const int64_t per_block = int64_t{row_threads(t.cols())} * 8;
  return dim3(static_cast<unsigned>(t.rows()), static_cast<unsigned>((t.cols() + per_block - 1) / per_block));
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void scale_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float factor) {
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x) ? scale_kernel<true, Y, X> : scale_kernel<false, Y, X>;
    stream.moves(bytes_in(y, x));
    launch("scale", kernel, scaled_grid(y), row_threads(y.cols()), 0, stream, rows_of<Y>(y), rows_of<const X>(x), y.cols(), factor);
  });
}

void scale_rows_cuda(GpuStream& stream, const Tensor& x, const float* factors) {
  with_type(x, [&]<class X>(X) {
    auto kernel = whole_vectors(x, x) ? scale_rows_kernel<true, X> : scale_rows_kernel<false, X>;
    stream.moves(2 * bytes_in(x));
    launch("scale_rows", kernel, scaled_grid(x), row_threads(x.cols()), 0, stream, rows_of<X>(x), factors, x.cols());
  });
}

void soft_cap_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float cap) {
  auto kernel = whole_vectors(y, x) ? soft_cap_kernel<true> : soft_cap_kernel<false>;
  stream.moves(bytes_in(y, x));
  launch("soft_cap", kernel, scaled_grid(y), row_threads(y.cols()), 0, stream, rows_of<float>(y), rows_of<const float>(x), y.cols(), cap);
}

void soft_cap_backward_cuda(GpuStream& stream, const Tensor& d, const Tensor& y, float cap) {
  with_type(d, [&]<class D>(D) {
    auto kernel = whole_vectors(d, y) ? soft_cap_backward_kernel<true, D> : soft_cap_backward_kernel<false, D>;
    stream.moves(bytes_in(d, d, y));
    launch("soft_cap_backward", kernel, scaled_grid(d), row_threads(d.cols()), 0, stream, rows_of<D>(d), rows_of<const float>(y), d.cols(),
           cap);
  });
}

}  // namespace loraine
