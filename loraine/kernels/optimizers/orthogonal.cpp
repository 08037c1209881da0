// X ← a X + (b A + c A A) X with A = X Xᵀ, over the smaller side.
#include "loraine/kernels/optimizers/orthogonal.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "loraine/kernels/optimizers/blocks-inl.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/training/adamw.h"

namespace loraine {
namespace {

constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;

float rounded(float x) { return bf16_to_f32(f32_to_bf16(x)); }

template <class Body>
void each(const Tensor& x, Body&& body) {
  over_blocks(std::array<Moment, 0>{}, x.numel(), [&](int64_t first, int64_t count, float* const*) {
    for (int64_t i = first; i < first + count; ++i) x.f32()[i] = rounded(body(i));
  });
}

void transpose(const Tensor& out, const Tensor& in) {
  parallel_for(
      out.rows(),
      [&](int64_t r) {
        for (int64_t c = 0; c < out.cols(); ++c) out.f32()[r * out.cols() + c] = in.f32()[c * in.cols() + r];
      },
      row_chunk(out.cols()));
}

}  // namespace

int64_t orthogonalise_scratch(int64_t rows, int64_t cols) {
  const int64_t small = std::min(rows, cols);
  return 2 * rows * cols + 3 * small * small;
}

void orthogonalise(Context& ctx, const Tensor& x, float* scratch, int iterations) {
  const bool tall = x.rows() > x.cols();
  const int64_t n = x.numel(), small = std::min(x.rows(), x.cols()), large = n / small;
  const Tensor wide(scratch, Dtype::F32, {small, large}), product(scratch + n, Dtype::F32, {small, large});
  float* squares = scratch + 2 * n;
  const Tensor a(squares, Dtype::F32, {small, small}), ca(squares + small * small, Dtype::F32, {small, small}),
      b(squares + 2 * small * small, Dtype::F32, {small, small});
  if (tall) transpose(wide, x);
  else std::copy_n(x.f32(), n, wide.f32());
  each(wide, [&](int64_t i) { return wide.f32()[i]; });
  const float norm = rounded(rounded(static_cast<float>(std::sqrt(sum_of_squares(ctx, wide)))) + 1e-7f);
  each(wide, [&](int64_t i) { return wide.f32()[i] / norm; });
  for (int k = 0; k < iterations; ++k) {
    matmul_nt(ctx, a, wide, wide);
    each(a, [&](int64_t i) { return a.f32()[i]; });
    each(ca, [&](int64_t i) { return kC * a.f32()[i]; });
    matmul_nn(ctx, b, ca, a);
    each(b, [&](int64_t i) { return rounded(kB * a.f32()[i]) + rounded(b.f32()[i]); });
    matmul_nn(ctx, product, b, wide);
    each(wide, [&](int64_t i) { return rounded(kA * wide.f32()[i]) + rounded(product.f32()[i]); });
  }
  if (tall) transpose(x, wide);
  else std::copy_n(wide.f32(), n, x.f32());
}

void nesterov(Context& ctx, const Tensor& out, const Tensor& buffer, const Tensor& gradient, float scale, float momentum) {
  check_op(out.numel() == gradient.numel() && buffer.numel() == gradient.numel(), "nesterov", "all must be of one size");
  dispatch(ctx, "nesterov", [&] {
    over_blocks(std::array<Moment, 1>{Moment{buffer}}, out.numel(), [&](int64_t first, int64_t count, float* const* state) {
      const float* g = gradient.f32() + first;
      for (int64_t i = 0; i < count; ++i) {
        state[0][i] = state[0][i] * momentum + g[i] * scale;
        out.f32()[first + i] = g[i] * scale + momentum * state[0][i];
      }
    });
  });
}

}  // namespace loraine
