// Small matrices, a block at a time; callers take blocks in parallel.
#include "loraine/adapters/peft_methods/cayley.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "loraine/adapters/dense_solve.h"

namespace loraine {
namespace {

using Square = std::vector<float>;

template <class Number>
void fill_skew(Number* q, const float* v, int64_t b) {
  for (int64_t i = 0, at = 0; i < b; ++i) {
    q[i * b + i] = 0;
    for (int64_t j = i + 1; j < b; ++j, ++at) {
      q[i * b + j] = static_cast<Number>(v[at]);
      q[j * b + i] = -static_cast<Number>(v[at]);
    }
  }
}

// c += a b
template <class Number>
void add_square_product(Number* c, const Number* a, const Number* right, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k) {
      const Number factor = a[i * n + k];
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += factor * right[k * n + j];
    }
}

template <class Number>
std::vector<Number> turned_square(const std::vector<Number>& a, int64_t n) {
  std::vector<Number> t(a.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) t[static_cast<size_t>(j * n + i)] = a[static_cast<size_t>(i * n + j)];
  return t;
}

// The highest power of the series; PEFT adds the cube with three terms already.
int64_t highest_power(int64_t terms) { return terms <= 1 ? 0 : terms == 2 ? 1 : std::max<int64_t>(3, terms - 1); }
float factor_of(int64_t power, int64_t terms) { return power == highest_power(terms) && terms > 2 ? 1.0f : 2.0f; }

template <class Number>
void add_skew_gradient(float* d_v, const Number* d_q, int64_t b) {
  for (int64_t i = 0, at = 0; i < b; ++i)
    for (int64_t j = i + 1; j < b; ++j, ++at) d_v[at] += static_cast<float>(d_q[i * b + j] - d_q[j * b + i]);
}

// (I + Q)⁻¹ [b, b], as (I − Q)(I + Q Qᵀ)⁻¹: what is inverted is symmetric, and no eigenvalue is below 1. NaN of a Q that is not finite.
std::vector<double> inverse_of_one_plus(const float* v, int64_t b) {
  const size_t n = static_cast<size_t>(b * b), side = static_cast<size_t>(b);
  std::vector<double> less(n), square(n), rows(n), inverse(n);
  fill_skew(less.data(), v, b);
  product_nt(square, less, less, b, b, b);
  for (size_t i = 0; i < n; ++i) less[i] = -less[i];
  for (size_t i = 0; i < side; ++i) less[i * side + i] = 1, square[i * side + i] += 1;
  if (!factor_cholesky(square, b)) return std::vector<double>(n, std::nan(""));
  for (size_t i = 0; i < side; ++i) {
    std::vector<double> row(side);
    row[i] = 1;
    solve_cholesky(square, row, b);
    std::ranges::copy(row, rows.begin() + static_cast<int64_t>(i * side));
  }
  product_nt(inverse, less, rows, b, b, b);
  return inverse;
}

}  // namespace

void cayley(float* r, const float* v, int64_t b, int64_t terms) {
  const size_t n = static_cast<size_t>(b * b);
  if (terms == 0) {
    const std::vector<double> inverse = inverse_of_one_plus(v, b);
    std::vector<double> less(n), out(n);
    fill_skew(less.data(), v, b);
    for (size_t i = 0; i < n; ++i) less[i] = -less[i];
    for (int64_t i = 0; i < b; ++i) less[static_cast<size_t>(i * b + i)] = 1;
    add_square_product(out.data(), less.data(), inverse.data(), b);
    std::copy(out.begin(), out.end(), r);
    return;
  }
  Square q(n), power(n), next(n);
  fill_skew(q.data(), v, b);
  std::fill_n(r, b * b, 0.0f);
  for (int64_t i = 0; i < b; ++i) r[i * b + i] = 1;
  for (int64_t k = 1; k <= highest_power(terms); ++k) {
    if (k == 1) {
      power = q;
    } else {
      std::fill(next.begin(), next.end(), 0.0f);
      add_square_product(next.data(), power.data(), q.data(), b);
      power.swap(next);
    }
    for (size_t i = 0; i < n; ++i) r[i] += factor_of(k, terms) * power[i];
  }
}

void cayley_backward(float* d_v, const float* d_r, const float* r, const float* v, int64_t b, int64_t terms) {
  const size_t n = static_cast<size_t>(b * b);
  if (terms == 0) {  // dR = −(I + R) dQ (I + Q)⁻¹, so that d_Q = −(I + R)ᵀ G (I + Q)⁻ᵀ
    const std::vector<double> inverse = inverse_of_one_plus(v, b);
    std::vector<double> one_plus(n), g(d_r, d_r + n), half(n), d_q(n);
    for (size_t i = 0; i < n; ++i) one_plus[i] = -static_cast<double>(r[i]);
    for (int64_t i = 0; i < b; ++i) one_plus[static_cast<size_t>(i * b + i)] -= 1;
    add_square_product(half.data(), turned_square(one_plus, b).data(), g.data(), b);
    add_square_product(d_q.data(), half.data(), turned_square(inverse, b).data(), b);
    return add_skew_gradient(d_v, d_q.data(), b);
  }
  const int64_t highest = highest_power(terms);
  if (highest == 0) return;
  std::vector<Square> powers(static_cast<size_t>(highest), Square(n));  // Q, Q², …
  fill_skew(powers[0].data(), v, b);
  for (size_t k = 1; k < powers.size(); ++k) add_square_product(powers[k].data(), powers[k - 1].data(), powers[0].data(), b);
  const Square q_turned = turned_square(powers[0], b);
  Square d_q(n), d_power(n), before(n);  // Qᵏ = Qᵏ⁻¹ Q, from the highest down
  for (int64_t k = highest; k >= 1; --k) {
    for (size_t i = 0; i < n; ++i) d_power[i] += factor_of(k, terms) * d_r[i];
    if (k == 1) {
      for (size_t i = 0; i < n; ++i) d_q[i] += d_power[i];
      break;
    }
    add_square_product(d_q.data(), turned_square(powers[static_cast<size_t>(k - 2)], b).data(), d_power.data(), b);
    std::fill(before.begin(), before.end(), 0.0f);
    add_square_product(before.data(), d_power.data(), q_turned.data(), b);
    d_power.swap(before);
  }
  add_skew_gradient(d_v, d_q.data(), b);
}

}  // namespace loraine
