// Small linear algebra in double on dense row-major matrices: products, Cholesky, the pseudo-inverse. Called by data_start.cpp and
// peft_methods/cayley.cpp.
#pragma once
#include <cstdint>
#include <vector>

namespace loraine {

// out [m, n] = a [m, k] bᵀ, b [n, k].
void product_nt(std::vector<double>& out, const std::vector<double>& a, const std::vector<double>& b, int64_t m, int64_t n, int64_t k);
// m [n, n], symmetric and positive, becomes L with L Lᵀ = m (below the diagonal; above it nothing is touched). false where it is not
// positive.
[[nodiscard]] bool factor_cholesky(std::vector<double>& m, int64_t n);
// x [n] becomes (L Lᵀ)⁻¹ x.
void solve_cholesky(const std::vector<double>& l, std::vector<double>& x, int64_t n);
// [cols, rows] of m [rows, cols]: mᵀ (m mᵀ)⁻¹ or (mᵀ m)⁻¹ mᵀ; empty where it has not full rank.
std::vector<double> pseudo_inverse(const std::vector<double>& m, int64_t rows, int64_t cols);

}  // namespace loraine
