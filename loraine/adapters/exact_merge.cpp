// Long sums in double over f32 matrices; compiled with -O3.
#include "loraine/adapters/exact_merge.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace loraine {
namespace {

constexpr double kUnit = 0x1p-24;  // half a step of f32 at 1

// Magnitudes of f32 are in order as whole numbers, whose largest a compiler finds several at a time.
float largest(const float* x, int64_t n) {
  int32_t most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::bit_cast<int32_t>(x[i]) & 0x7fffffff);
  return std::bit_cast<float>(most);
}

double largest(std::span<const double> x) {
  int64_t most = 0;
  for (const double v : x) most = std::max(most, std::bit_cast<int64_t>(v) & 0x7fffffffffffffff);
  return std::bit_cast<double>(most);
}

void add_scaled(double* w, const float* a, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) w[i] += factor * static_cast<double>(a[i]);
}

}  // namespace

ExactProduct::ExactProduct(const Tensor& a, double scale) : a_(a), scale_(scale) {
  for (int64_t k = 0; k < a.rows(); ++k) largest_.push_back(largest(a.f32() + k * a.row_stride, a.cols()));
}

double ExactProduct::add(std::span<double> w, const float* b, int64_t b_stride) const {
  double size = largest(w);
  for (int64_t k = 0; k < a_.rows(); ++k) {
    const double factor = scale_ * static_cast<double>(b[k * b_stride]);
    add_scaled(w.data(), a_.f32() + k * a_.row_stride, a_.cols(), factor);
    size += std::abs(factor) * static_cast<double>(largest_[static_cast<size_t>(k)]);
  }
  return static_cast<double>(a_.rows() + 4) * kUnit * size;
}

double rescale_row(std::span<double> w, double magnitude, double error) {
  double squares = 0;
  for (const double v : w) squares += v * v;
  const double norm = std::max(1e-30, std::sqrt(squares)), factor = magnitude / norm, size = largest(w);
  for (double& v : w) v *= factor;
  const double of_norm = error * std::sqrt(static_cast<double>(w.size())) / norm;  // relative
  return std::abs(factor) * (error + size * (of_norm + 4 * kUnit));
}

}  // namespace loraine
