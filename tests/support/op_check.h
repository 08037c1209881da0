// What the op tests share: random data, comparison with a reference in double, and gradients by central differences of that reference.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "loraine/core/tensor.h"

namespace loraine {

inline std::vector<float> random_floats(int64_t n, uint32_t seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(generator);
  return x;
}

inline std::vector<double> doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

inline Tensor matrix(std::vector<float>& x, int64_t rows, int64_t cols) {
  EXPECT_EQ(static_cast<int64_t>(x.size()), rows * cols);
  return Tensor(x.data(), Dtype::F32, {rows, cols});
}

// Rounded to bf16, and back to what that holds.
inline std::vector<bf16> to_bf16(const std::vector<float>& x) {
  std::vector<bf16> out;
  for (float v : x) out.push_back(f32_to_bf16(v));
  return out;
}
inline std::vector<float> to_floats(const std::vector<bf16>& x) {
  std::vector<float> out;
  for (bf16 v : x) out.push_back(bf16_to_f32(v));
  return out;
}
inline Tensor matrix(std::vector<bf16>& x, int64_t rows, int64_t cols) {
  EXPECT_EQ(static_cast<int64_t>(x.size()), rows * cols);
  return Tensor(x.data(), Dtype::BF16, {rows, cols});
}

// Every element within tolerance · (largest magnitude of the reference).
template <class Reference>
void expect_near(const std::vector<float>& got, const std::vector<Reference>& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 1e-30, worst = 0;
  size_t where = 0;
  for (const Reference& w : want) largest = std::max(largest, std::abs(static_cast<double>(w)));
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << what << " at " << i;
    double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (error > worst) worst = error, where = i;
  }
  EXPECT_LE(worst, tolerance * largest) << what << " at " << where << ": " << got[where] << " instead of " << want[where];
}

// d f / d x by central differences; f() reads x and returns a double. Give f the double reference of the op.
template <class F>
std::vector<double> central_differences(std::vector<double>& x, F&& f, double h = 1e-5) {
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    double kept = x[i];
    x[i] = kept + h;
    double up = f();
    x[i] = kept - h;
    double down = f();
    x[i] = kept;
    gradient[i] = (up - down) / (2 * h);
  }
  return gradient;
}

// Σ a·b: turns an op's output into the scalar whose gradient is checked.
template <class A, class B>
double inner(const std::vector<A>& a, const std::vector<B>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace loraine
