// Products of the emulated GPU: plain loops on the CPU when the stream's turn comes, sums in f32 and in one order, one rounding.
#include "loraine/kernels/cuda/gemm.h"

#include <vector>

#include "loraine/core/dtype.h"
#include "loraine/core/gpu_emulated.h"

namespace loraine {
namespace {

float gemm_element(const Tensor& t, int64_t row, int64_t col) {
  const int64_t at = row * t.row_stride + col;
  return t.dtype == Dtype::BF16 ? bf16_to_f32(static_cast<const bf16*>(t.data)[at]) : static_cast<const float*>(t.data)[at];
}

void multiply_rows(ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate, float alpha, GemmShape shape) {
  std::vector<float> right(static_cast<size_t>(shape.K * shape.N));  // [K, N]
  for (int64_t k = 0; k < shape.K; ++k)
    for (int64_t n = 0; n < shape.N; ++n)
      right[static_cast<size_t>(k * shape.N + n)] = form == ProductForm::nt ? gemm_element(w, n, k) : gemm_element(w, k, n);
  std::vector<float> sums(static_cast<size_t>(shape.N));
  for (int64_t m = 0; m < shape.M; ++m) {
    sums.assign(sums.size(), 0);
    for (int64_t k = 0; k < shape.K; ++k) {
      const float left = form == ProductForm::tn ? gemm_element(x, k, m) : gemm_element(x, m, k);
      const float* row = right.data() + k * shape.N;
      for (size_t n = 0; n < sums.size(); ++n) sums[n] += left * row[n];
    }
    for (int64_t n = 0; n < shape.N; ++n) {
      const float value = alpha * sums[static_cast<size_t>(n)] + (accumulate ? gemm_element(y, m, n) : 0.0f);
      const int64_t at = m * y.row_stride + n;
      if (y.dtype == Dtype::BF16) static_cast<bf16*>(y.data)[at] = f32_to_bf16(value);
      else static_cast<float*>(y.data)[at] = value;
    }
  }
}

}  // namespace

struct Gemm::State {};
Gemm::Gemm(bool /*only_counts*/) {}
Gemm::~Gemm() = default;

void Gemm::multiply(GpuStream& stream, ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate, float alpha) {
  const GemmShape shape = gemm_shape(form, y, x, w);
  if (!begin_product(stream, shape, y, x, w, accumulate)) return;
  enqueue_emulated(stream, "product", [=] { multiply_rows(form, y, x, w, accumulate, alpha, shape); });
}

}  // namespace loraine
