// LayerNorm on the GPU, a block a row.
#include "loraine/kernels/norms/norm_rows.h"
#include "loraine/kernels/norms/norms_cuda.h"

namespace loraine::cuda {
namespace {

struct LayerRow {
  int64_t C, mean_stride, rstd_stride;
  float eps, offset;
};
struct LayerRoom {  // one for each sum
  WarpRoom first, second;
};

template <bool kWhole, class Y, class X>
__device__ __forceinline__ void normalise(Y* out, const X* in, const float* weight, const float* bias, float mean, float rstd,
                                          const LayerRow& row) {
  for_columns(row.C, [&](int64_t c) {
    float v[8], w[8], b[8] = {};
    load_eight<kWhole>(v, in, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    if (bias) load_eight<kWhole>(b, bias, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) v[i] = (v[i] - mean) * rstd * w[i] + b[i];
    store_eight<kWhole>(out, c, row.C, v);
  });
}

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256)
    layer_norm_kernel(Rows<Y> y, float* mean, float* rstd, Rows<const X> x, const float* weight, const float* bias, LayerRow row) {
  LayerRoom& room = shared<LayerRoom>();
  const X* in = x.data + blockIdx.x * x.stride;
  float sum = 0, squares = 0;
  for_columns(row.C, [&](int64_t c) {
    float v[8];
    load_eight<kWhole>(v, in, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) sum += v[i];
  });
  const float m = block_sum(sum, room.first) / static_cast<float>(row.C);
  for_columns(row.C, [&](int64_t c) {
    float v[8];
    load_eight<kWhole>(v, in, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) squares += c + i < row.C ? (v[i] - m) * (v[i] - m) : 0.0f;
  });
  const float r = 1.0f / sqrtf(block_sum(squares, room.second) / static_cast<float>(row.C) + row.eps);
  if (threadIdx.x == 0) mean[blockIdx.x * row.mean_stride] = m, rstd[blockIdx.x * row.rstd_stride] = r;
  normalise<kWhole>(y.data + blockIdx.x * y.stride, in, weight, bias, m, r, row);
}

template <bool kWhole, class Y, class X>
__global__ void __launch_bounds__(256) layer_norm_rebuild_kernel(Rows<Y> y, Rows<const X> x, const float* mean, const float* rstd,
                                                                 const float* weight, const float* bias, LayerRow row) {
  normalise<kWhole>(y.data + blockIdx.x * y.stride, x.data + blockIdx.x * x.stride, weight, bias, mean[blockIdx.x * row.mean_stride],
                    rstd[blockIdx.x * row.rstd_stride], row);
}

// With n = (x − mean) · rstd and g = d_y · weight: d_x = rstd · (g − mean(g) − n · mean(g · n)). d_x may be d_y.
template <bool kWhole, class D, class G, class X>
__global__ void __launch_bounds__(256) layer_norm_backward_kernel(Rows<D> d_x, Rows<const G> d_y, Rows<const X> x, const float* mean,
                                                                  const float* rstd, const float* weight, LayerRow row, bool accumulate) {
  LayerRoom& room = shared<LayerRoom>();
  const X* in = x.data + blockIdx.x * x.stride;
  const G* gradient = d_y.data + blockIdx.x * d_y.stride;
  D* out = d_x.data + blockIdx.x * d_x.stride;
  const float m = mean[blockIdx.x * row.mean_stride], r = rstd[blockIdx.x * row.rstd_stride], size = static_cast<float>(row.C);
  float sum = 0, dot = 0;
  for_columns(row.C, [&](int64_t c) {
    float v[8], g[8], w[8];
    load_eight<kWhole>(v, in, c, row.C);
    load_eight<kWhole>(g, gradient, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) {  // beyond the row g is 0
      sum += g[i] * w[i];
      dot += g[i] * w[i] * (v[i] - m);
    }
  });
  const float level = block_sum(sum, room.first) * r / size, back = block_sum(dot, room.second) * r * r * r / size;
  for_columns(row.C, [&](int64_t c) {
    float v[8], g[8], w[8], d[8] = {};
    load_eight<kWhole>(v, in, c, row.C);
    load_eight<kWhole>(g, gradient, c, row.C);
    load_factors<kWhole>(w, weight, row.offset, c, row.C);
    if (accumulate) load_eight<kWhole>(d, out, c, row.C);
    UNROLL
    for (int i = 0; i < 8; ++i) d[i] += g[i] * w[i] * r - level - (v[i] - m) * back;
    store_eight<kWhole>(out, c, row.C, d);
  });
}

LayerRow row_of(const Tensor& x, const Tensor& mean, const Tensor& rstd, float eps, float offset) {
  return {x.cols(), mean.row_stride, rstd.row_stride, eps, offset};
}
unsigned blocks_of(const Tensor& x) { return static_cast<unsigned>(x.rows()); }

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void layer_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                     const Tensor& bias, float eps, float offset) {
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x, weight, bias) ? layer_norm_kernel<true, Y, X> : layer_norm_kernel<false, Y, X>;
    stream.moves(bytes_in(y, mean, rstd, x, weight, bias));
    launch("layer_norm", kernel, blocks_of(x), row_threads(x.cols()), sizeof(LayerRoom), stream, rows_of<Y>(y), mean.f32(), rstd.f32(),
           rows_of<const X>(x), floats_of(weight), floats_of(bias), row_of(x, mean, rstd, eps, offset));
  });
}

void layer_norm_rebuild_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                             const Tensor& weight, const Tensor& bias, float offset) {
  with_types(y, x, [&]<class Y, class X>(Y, X) {
    auto kernel = whole_vectors(y, x, weight, bias) ? layer_norm_rebuild_kernel<true, Y, X> : layer_norm_rebuild_kernel<false, Y, X>;
    stream.moves(bytes_in(y, x, mean, rstd, weight, bias));
    launch("layer_norm_rebuild", kernel, blocks_of(x), row_threads(x.cols()), 0, stream, rows_of<Y>(y), rows_of<const X>(x), mean.f32(),
           rstd.f32(), floats_of(weight), floats_of(bias), row_of(x, mean, rstd, 0, offset));
  });
}

void layer_norm_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean,
                              const Tensor& rstd, const Tensor& weight, float offset, bool accumulate) {
  with_types(d_y, x, [&]<class G, class X>(G, X) {
    with_type(d_x, [&]<class D>(D) {
      auto kernel =
          whole_vectors(d_x, d_y, x, weight) ? layer_norm_backward_kernel<true, D, G, X> : layer_norm_backward_kernel<false, D, G, X>;
      stream.moves(bytes_in(d_x, d_y, x, mean, rstd, weight) + (accumulate ? bytes_in(d_x) : 0));
      launch("layer_norm_backward", kernel, blocks_of(x), row_threads(x.cols()), sizeof(LayerRoom), stream, rows_of<D>(d_x),
             rows_of<const G>(d_y), rows_of<const X>(x), mean.f32(), rstd.f32(), floats_of(weight), row_of(x, mean, rstd, 0, offset),
             accumulate);
    });
  });
}

}  // namespace loraine
