// OFT (Qiu et al. 2023; in the form of OFT v2, Qiu et al. 2025): y = W R x + b, R of orthogonal blocks on the diagonal, each Cayley's
// transform of a skew-symmetric matrix whose numbers above the diagonal are trained (PEFT's oft_R [blocks, b (b − 1) / 2]). W is only
// multiplied with, so that it may lie in any codes. R starts as the identity.
#pragma once
#include <span>

#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_oft(MethodKeys& keys, LoraConfig& config);

// A row of a weight in double with blocks [n, b, b] (or [1, b, b] for all) merged in: w[k·b + j] becomes Σ_c w[k·b + c] blocks[k, j, c].
// Gives how far the sums of a merge in f32 may lie from it.
double rotate_exactly(std::span<double> w, const Tensor& blocks);

// PEFT's number for one that does not divide `columns`: the nearest that does, of two the smaller.
int64_t nearest_divisor(int64_t columns, int64_t wanted);

}  // namespace loraine
