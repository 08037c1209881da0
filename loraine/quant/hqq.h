// Quantising a weight as HQQ does (hqq 0.2.8 on the CPU: core/quantize.py Quantizer.quantize, core/optimize.py): scales of the range of
// each group, zeros from its half-quadratic solver. Called by quantise.
#pragma once
#include "loraine/quant/quantise.h"

namespace loraine {

int64_t hqq_bits(Dtype type);  // 1, 2, 3, 4 or 8

// quantise() for codes in groups. Codes are hqq's but where the sums of the solver, in another order, round another way; scales are the
// same. Throws unsupported where group_size does not divide the number of elements, or the codes of a row are no whole bytes.
QuantisedWeight quantise_as_hqq(const Tensor& weight, const Quantisation& how, Dtype values);

}  // namespace loraine
