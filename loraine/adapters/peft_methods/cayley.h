// From the numbers above the diagonal of a skew-symmetric Q to an orthogonal block, by Cayley's transform as PEFT has it: exact,
// R = (I − Q)(I + Q)⁻¹, or the Neumann series of (I + Q)(I − Q)⁻¹ (the other way round) cut off, R = I + 2Q + 2Q² + … + 2Qⁿ⁻² + Qⁿ⁻¹ with
// n num_cayley_neumann_terms. Used by OFT and BOFT.
#pragma once
#include <cstdint>

namespace loraine {

// r [b, b] of v [b (b − 1) / 2], row by row. terms: of the series; 0: exact, in double.
void cayley(float* r, const float* v, int64_t b, int64_t terms);
// d_v += the gradient through it, of d_r [b, b]. r: as cayley gave it (for the exact one).
void cayley_backward(float* d_v, const float* d_r, const float* r, const float* v, int64_t b, int64_t terms);

}  // namespace loraine
