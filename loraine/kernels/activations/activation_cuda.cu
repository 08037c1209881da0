// Activations on the GPU, eight elements a thread. Which curve it is, is the same for all threads of a launch: a branch costs next to
// nothing beside the memory.
#include <cmath>

#include "loraine/kernels/activations/activations_cuda.h"
#include "loraine/kernels/cuda/device.h"

namespace loraine::cuda {
namespace {

constexpr float kXieluBeta = 0.5f, kXieluEps = -1e-6f;

struct Curve {
  Activation kind;
  float a_p, a_n;  // of xielu
};

struct ValueAndSlope {
  float value, slope;
};

__device__ __forceinline__ float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }

// expm1(m) − m
__device__ __forceinline__ float bend(float m) {
  if (fabsf(m) > 0.34f) return expm1f(m) - m;
  float p = 1.0f / 40320;  // the series of e^m from its third term on
  p = p * m + 1.0f / 5040;
  p = p * m + 1.0f / 720;
  p = p * m + 1.0f / 120;
  p = p * m + 1.0f / 24;
  p = p * m + 1.0f / 6;
  p = p * m + 0.5f;
  return p * m * m;
}

__device__ __forceinline__ ValueAndSlope curve_at(const Curve& curve, float x) {
  switch (curve.kind) {
    case Activation::silu: {
      const float s = sigmoid_of(x);
      return {x / (1.0f + expf(-x)), s * (1.0f + x * (1.0f - s))};
    }
    case Activation::gelu_tanh: {  // ½ (1 + tanh(u)) is sigmoid(2u)
      const float linear = 1.59576912160573071f, cubic = 0.044715f * 1.59576912160573071f;
      const float s = sigmoid_of(x * (cubic * (x * x) + linear));
      const float near = fmaxf(-20.0f, fminf(20.0f, x));  // beyond, the slope is 0 or 1
      return {x * s, near * (3 * cubic * (near * near) + linear) * (s * (1.0f - s)) + s};
    }
    case Activation::gelu_erf: {
      const float share = x < 0 ? 0.5f * erfcf(-x * 0.707106781186547524f) : 0.5f + 0.5f * erff(x * 0.707106781186547524f);
      return {x * share, x * 0.398942280401432678f * expf(-0.5f * x * x) + share};
    }
    case Activation::relu2: {
      const float r = x < 0 ? 0.0f : x;
      return {r * r, r + r};
    }
    case Activation::relu: return {x < 0 ? 0.0f : x, x > 0 ? 1.0f : 0.0f};
    case Activation::xielu: break;
  }
  const float m = fminf(x, kXieluEps), bent = bend(m), linear = kXieluBeta * x;
  if (x > 0) return {curve.a_p * x * x + linear, 2 * curve.a_p * x + kXieluBeta};
  return {curve.a_n * (bent + (m - x)) + linear, curve.a_n * (bent + m) + kXieluBeta};
}

// x, or gate and up: columns [c, c + 8) of row blockIdx.x
__device__ __forceinline__ int64_t first_column() { return (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * 8; }

template <bool kWhole, class T>
__global__ void __launch_bounds__(256) activate_kernel(Rows<T> h, Rows<const T> x, int64_t F, Curve curve) {
  const int64_t c = first_column();
  if (c >= F) return;
  float v[8];
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, F);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] = curve_at(curve, v[i]).value;
  store_eight<kWhole>(h.data + blockIdx.x * h.stride, c, F, v);
}

template <bool kWhole, class T>
__global__ void __launch_bounds__(256) activate_backward_kernel(Rows<T> d_x, Rows<const T> d_h, Rows<const T> x, int64_t F, Curve curve) {
  const int64_t c = first_column();
  if (c >= F) return;
  float v[8], g[8];
  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, F);
  load_eight<kWhole>(g, d_h.data + blockIdx.x * d_h.stride, c, F);
  UNROLL
  for (int i = 0; i < 8; ++i) g[i] *= curve_at(curve, v[i]).slope;
  store_eight<kWhole>(d_x.data + blockIdx.x * d_x.stride, c, F, g);
}

template <bool kWhole, class T>
__global__ void __launch_bounds__(256) gated_activate_kernel(Rows<T> h, Rows<const T> gate_up, int64_t F, Curve curve) {
  const int64_t c = first_column();
  if (c >= F) return;
  const T* gate = gate_up.data + blockIdx.x * gate_up.stride;
  float v[8], up[8];
  load_eight<kWhole>(v, gate, c, F);
  load_eight<kWhole>(up, gate + F, c, F);
  UNROLL
  for (int i = 0; i < 8; ++i) v[i] = curve_at(curve, v[i]).value * up[i];
  store_eight<kWhole>(h.data + blockIdx.x * h.stride, c, F, v);
}

// d_gate_up may be gate_up: each thread reads what it overwrites.
template <bool kWhole, class T>
__global__ void __launch_bounds__(256)
    gated_activate_backward_kernel(Rows<T> d_gate_up, Rows<const T> d_h, Rows<const T> gate_up, int64_t F, Curve curve, Rows<T> h) {
  const int64_t c = first_column();
  if (c >= F) return;
  const T* gate = gate_up.data + blockIdx.x * gate_up.stride;
  T* out = d_gate_up.data + blockIdx.x * d_gate_up.stride;
  float v[8], up[8], g[8], gave[8];
  load_eight<kWhole>(v, gate, c, F);
  load_eight<kWhole>(up, gate + F, c, F);
  load_eight<kWhole>(g, d_h.data + blockIdx.x * d_h.stride, c, F);
  UNROLL
  for (int i = 0; i < 8; ++i) {
    const ValueAndSlope at = curve_at(curve, v[i]);
    gave[i] = at.value * up[i];
    v[i] = g[i] * up[i] * at.slope;
    up[i] = g[i] * at.value;
  }
  store_eight<kWhole>(out, c, F, v);
  store_eight<kWhole>(out + F, c, F, up);
  if (h.data) store_eight<kWhole>(h.data + blockIdx.x * h.stride, c, F, gave);
}

struct SlopesRoom {
  WarpRoom right, left;
};
template <bool kWhole, class T>
__global__ void __launch_bounds__(256) xielu_slopes_kernel(Rows<float> sums, Rows<const T> d_h, Rows<const T> x, int64_t F) {
  SlopesRoom& room = shared<SlopesRoom>();
  float right = 0, left = 0;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * 8; c < F; c += static_cast<int64_t>(blockDim.x) * 8) {
    float v[8], g[8];
    load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, F);
    load_eight<kWhole>(g, d_h.data + blockIdx.x * d_h.stride, c, F);
    UNROLL
    for (int i = 0; i < 8; ++i) {
      const float m = fminf(v[i], kXieluEps);
      if (v[i] > 0) right += g[i] * (v[i] * v[i]);
      else left += g[i] * (bend(m) + (m - v[i]));
    }
  }
  right = block_sum(right, room.right);
  left = block_sum(left, room.left);
  if (threadIdx.x > 0) return;
  sums.data[blockIdx.x * sums.stride] = right;
  sums.data[blockIdx.x * sums.stride + 1] = left;
}

Curve curve_of(const ActivationShape& shape) {
  auto softplus = [](float x) { return std::fmax(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); };
  return {shape.kind, softplus(shape.alpha_p), kXieluBeta + softplus(shape.alpha_n)};
}

// A thread for each eight columns of F.
dim3 grid_of(const Tensor& h) {
  const int64_t per_block = int64_t{row_threads(h.cols())} * 8;
  return dim3(static_cast<unsigned>(h.rows()), static_cast<unsigned>((h.cols() + per_block - 1) / per_block));
}
// A row of gate and up is two rows of F columns.
bool whole_halves(const Tensor& gate_up, const Tensor& h) { return whole_vectors(gate_up.col_range(0, h.cols()), h); }

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void activate_cuda(GpuStream& stream, const Tensor& h, const Tensor& x, const ActivationShape& shape) {
  with_type(h, [&]<class T>(T) {
    auto kernel = whole_vectors(h, x) ? activate_kernel<true, T> : activate_kernel<false, T>;
    stream.moves(bytes_in(h, x));
    launch("activate", kernel, grid_of(h), row_threads(h.cols()), 0, stream, rows_of<T>(h), rows_of<const T>(x), h.cols(), curve_of(shape));
  });
}

void activate_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_h, const Tensor& x, const ActivationShape& shape) {
  with_type(d_h, [&]<class T>(T) {
    auto kernel = whole_vectors(d_x, d_h, x) ? activate_backward_kernel<true, T> : activate_backward_kernel<false, T>;
    stream.moves(bytes_in(d_x, d_h, x));
    launch("activate_backward", kernel, grid_of(d_h), row_threads(d_h.cols()), 0, stream, rows_of<T>(d_x), rows_of<const T>(d_h),
           rows_of<const T>(x), d_h.cols(), curve_of(shape));
  });
}

void xielu_slopes_cuda(GpuStream& stream, const Tensor& sums, const Tensor& d_h, const Tensor& x) {
  with_type(d_h, [&]<class T>(T) {
    auto kernel = whole_vectors(d_h, x) ? xielu_slopes_kernel<true, T> : xielu_slopes_kernel<false, T>;
    stream.moves(bytes_in(sums, d_h, x));
    launch("xielu_slopes", kernel, static_cast<unsigned>(x.rows()), row_threads(x.cols()), sizeof(SlopesRoom), stream, rows_of<float>(sums),
           rows_of<const T>(d_h), rows_of<const T>(x), x.cols());
  });
}

void gated_activate_cuda(GpuStream& stream, const Tensor& h, const Tensor& gate_up, const ActivationShape& shape) {
  with_type(h, [&]<class T>(T) {
    auto kernel = whole_halves(gate_up, h) ? gated_activate_kernel<true, T> : gated_activate_kernel<false, T>;
    stream.moves(bytes_in(h, gate_up));
    launch("gated_activate", kernel, grid_of(h), row_threads(h.cols()), 0, stream, rows_of<T>(h), rows_of<const T>(gate_up), h.cols(),
           curve_of(shape));
  });
}

void gated_activate_backward_cuda(GpuStream& stream, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up,
                                  const ActivationShape& shape, const Tensor& h) {
  with_type(d_h, [&]<class T>(T) {
    auto kernel = whole_halves(gate_up, d_h) && whole_halves(d_gate_up, d_h) && whole_vectors(h) ? gated_activate_backward_kernel<true, T>
                                                                                                 : gated_activate_backward_kernel<false, T>;
    stream.moves(bytes_in(d_gate_up, d_h, gate_up, h));
    launch("gated_activate_backward", kernel, grid_of(d_h), row_threads(d_h.cols()), 0, stream, rows_of<T>(d_gate_up),
           rows_of<const T>(d_h), rows_of<const T>(gate_up), d_h.cols(), curve_of(shape), rows_of<T>(h));
  });
}

}  // namespace loraine
