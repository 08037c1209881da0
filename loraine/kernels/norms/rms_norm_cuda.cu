// RMSNorm on the GPU, a block a row.
#include "loraine/kernels/norms/norm_rows.h"
#include "loraine/kernels/norms/norms_cuda.h"

namespace loraine::cuda {
namespace {

struct RmsRow {
  int64_t C, rstd_stride;
  float eps, offset;
};

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256) rms_norm_kernel(Rows<Y> y, float* rstd, Rows<const X> x, const float* weight, RmsRow row) {
  const X* in = x.data + blockIdx.x * x.stride;
  float sum = 0;
  for_columns(row.C, [&](int64_t c) {
    float v[8];
    load_eight<kWhole>(v, in, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) sum += v[i] * v[i];
  });
  const float r = 1.0f / sqrtf(block_sum(sum, shared<WarpRoom>()) / static_cast<float>(row.C) + row.eps);
  if (threadIdx.x == 0) rstd[blockIdx.x * row.rstd_stride] = r;
  for_columns(row.C, [&](int64_t c) {
    float v[8], w[8];
    load_eight<kWhole>(v, in, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) v[i] = v[i] * r * w[i];
    store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, row.C, v);
  });
}

// The residual stream: each thread reads again only what it has written itself.
template <bool kWhole, class Y, class R, class X>
__global__ void __launch_bounds__(256)
    add_rms_norm_kernel(Rows<Y> y, float* rstd, Rows<float> sum, Rows<R> rounded, Rows<const X> x, const float* weight, RmsRow row) {
  float* stream = sum.data + blockIdx.x * sum.stride;
  float squares = 0;
  for_columns(row.C, [&](int64_t c) {
    float v[8], more[8];
    load_eight<kWhole>(v, stream, c, row.C);
    if (x.data) {
      load_eight<kWhole>(more, x.data + blockIdx.x * x.stride, c, row.C);
      UNROLL
      for (int i = 0; i < 8; ++i) v[i] += more[i];
      store_eight<kWhole>(stream, c, row.C, v);
    }
    if (rounded.data) store_eight<kWhole>(rounded.data + blockIdx.x * rounded.stride, c, row.C, v);
    UNROLL
    for (int i = 0; i < 8; ++i) {
      const float kept = rounded.data ? round_to(v[i], R{}) : v[i];
      squares += kept * kept;
    }
  });
  const float r = 1.0f / sqrtf(block_sum(squares, shared<WarpRoom>()) / static_cast<float>(row.C) + row.eps);
  if (threadIdx.x == 0) rstd[blockIdx.x * row.rstd_stride] = r;
  for_columns(row.C, [&](int64_t c) {
    float v[8], w[8];
    load_eight<kWhole>(v, stream, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) v[i] = (rounded.data ? round_to(v[i], R{}) : v[i]) * r * w[i];
    store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, row.C, v);
  });
}

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256)
    rms_norm_rebuild_kernel(Rows<Y> y, Rows<const X> x, const float* rstd, const float* weight, RmsRow row) {
  const float r = rstd[blockIdx.x * row.rstd_stride];
  for_columns(row.C, [&](int64_t c) {
    float v[8], w[8];
    load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) v[i] = v[i] * r * w[i];
    store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, row.C, v);
  });
}

// With n = x · rstd and g = d_y · weight: d_x = rstd · (g − n · mean(g · n)). d_x may be d_y: each thread reads what it overwrites.
template <bool kWhole, class D, class G, class X>
__global__ void __launch_bounds__(256)
    rms_norm_backward_kernel(Rows<D> d_x, Rows<const G> d_y, Rows<const X> x, const float* rstd, const float* weight, RmsRow row,
                             bool accumulate, Rows<X> rounded, Rows<X> h) {
  const X* in = x.data + blockIdx.x * x.stride;
  const G* gradient = d_y.data + blockIdx.x * d_y.stride;
  D* out = d_x.data + blockIdx.x * d_x.stride;
  float dot = 0;
  for_columns(row.C, [&](int64_t c) {
    float v[8], g[8], w[8];
    load_eight<kWhole>(v, in, c, row.C);
    load_eight<kWhole>(g, gradient, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) dot += g[i] * w[i] * v[i];
  });
  const float r = rstd[blockIdx.x * row.rstd_stride];
  const float back = block_sum(dot, shared<WarpRoom>()) * r * r * r / static_cast<float>(row.C);
  for_columns(row.C, [&](int64_t c) {
    float v[8], g[8], w[8], d[8] = {};
    load_eight<kWhole>(v, in, c, row.C);
    load_eight<kWhole>(g, gradient, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    if (accumulate) load_eight<kWhole>(d, out, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) d[i] += g[i] * w[i] * r - v[i] * back;
    store_eight<kWhole>(out, c, row.C, d);
    if (rounded.data) store_eight<kWhole>(rounded.data + blockIdx.x * rounded.stride, c, row.C, d);
    if (h.data) {
      UNROLL
      for (int i = 0; i < 8; ++i) v[i] = v[i] * r * w[i];
      store_eight<kWhole>(h.data + blockIdx.x * h.stride, c, row.C, v);
    }
  });
}

RmsRow row_of(const Tensor& x, const Tensor& rstd, float eps, float offset) { return {x.cols(), rstd.row_stride, eps, offset}; }
unsigned blocks_of(const Tensor& x) { return static_cast<unsigned>(x.rows()); }

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void rms_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset) {
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x, weight) ? rms_norm_kernel<true, Y, X> : rms_norm_kernel<false, Y, X>;
    stream.moves(bytes_in(y, rstd, x, weight));
    launch("rms_norm", kernel, blocks_of(x), row_threads(x.cols()), sizeof(WarpRoom), stream, rows_of<Y>(y), rstd.f32(),
           rows_of<const X>(x), floats_of(weight), row_of(x, rstd, eps, offset));
  });
}

void add_rms_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& rstd, const Tensor& sum, const Tensor& rounded, const Tensor& x,
                       const Tensor& weight, float eps, float offset) {
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    with_type(rounded, [&]<class R>(R) {
      auto kernel = whole_vectors(y, sum, rounded, x, weight) ? add_rms_norm_kernel<true, Y, R, X> : add_rms_norm_kernel<false, Y, R, X>;
      stream.moves(bytes_in(y, rstd, sum, rounded, weight) + (x.data ? bytes_in(sum, x) : 0));
      launch("add_rms_norm", kernel, blocks_of(sum), row_threads(sum.cols()), sizeof(WarpRoom), stream, rows_of<Y>(y), rstd.f32(),
             rows_of<float>(sum), rows_of<R>(rounded), rows_of<const X>(x), floats_of(weight), row_of(sum, rstd, eps, offset));
    });
  });
}

void rms_norm_rebuild_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset) {
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x, weight) ? rms_norm_rebuild_kernel<true, Y, X> : rms_norm_rebuild_kernel<false, Y, X>;
    stream.moves(bytes_in(y, x, rstd, weight));
    launch("rms_norm_rebuild", kernel, blocks_of(x), row_threads(x.cols()), 0, stream, rows_of<Y>(y), rows_of<const X>(x), rstd.f32(),
           floats_of(weight), row_of(x, rstd, 0, offset));
  });
}

void rms_norm_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd,
                            const Tensor& weight, bool accumulate, float offset, const Tensor& rounded, const Tensor& h) {
  with_types(d_y, x, [&]<class G, class X>(G, X) {
    with_type(d_x, [&]<class D>(D) {
      auto kernel = whole_vectors(d_x, d_y, x, weight, rounded, h) ? rms_norm_backward_kernel<true, D, G, X>
                                                                   : rms_norm_backward_kernel<false, D, G, X>;
      stream.moves(bytes_in(d_x, d_y, x, rstd, weight, rounded, h) + (accumulate ? bytes_in(d_x) : 0));
      launch("rms_norm_backward", kernel, blocks_of(x), row_threads(x.cols()), sizeof(WarpRoom), stream, rows_of<D>(d_x),
             rows_of<const G>(d_y), rows_of<const X>(x), rstd.f32(), floats_of(weight), row_of(x, rstd, 0, offset), accumulate,
             rows_of<X>(rounded), rows_of<X>(h));
    });
  });
}

}  // namespace loraine
