// Low-rank factors of a matrix w [m, n] F32: the first columns of its QR decomposition and its largest singular triplets. Arithmetic in
// double, the large products on kernels/matmul. Called by
// start.cpp (OLoRA, PiSSA), and by what adds up, cuts and compares adapters.
#pragma once
#include <cstdint>
#include <vector>

#include "loraine/core/context.h"

namespace loraine {

struct Factors {
  std::vector<float> left;    // [m, r]
  std::vector<float> values;  // [r], singular values (largest first); empty for QR
  std::vector<float> right;   // [r, n]
};

// w ≈ Q[:, :r] R[:r]: Householder reflections of the first r columns, with LAPACK's signs. r at most min(m, n).
Factors first_of_qr(Context& ctx, const Tensor& w, int64_t r);
// w ≈ U_r diag(S_r) V_r, exact to f32: Lanczos bidiagonalisation that goes on until the r triplets have settled.
Factors largest_singular(Context& ctx, const Tensor& w, int64_t r);
// The same as torch.svd_lowrank(w, q = r, niter = iterations) computes it, from a random start that `seed` fixes.
Factors randomized_singular(Context& ctx, const Tensor& w, int64_t r, int64_t iterations, uint64_t seed);

// All singular triplets of b a, b [m, r], a [r, n], both F32 and contiguous: min(r, m, n) of them, without the product where r is less than
// m and n. Directions of singular values that are 0 are 0 too.
Factors singular_of_product(Context& ctx, const Tensor& b, const Tensor& a);

}  // namespace loraine
