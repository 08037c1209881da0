// Quantising a weight as bitsandbytes does (functional.py quantize_4bit, int8_vectorwise_quant): the same codes and scales, bit for bit.
// Called by quantise, and by export.
#pragma once
#include "loraine/quant/quantise.h"

namespace loraine {

// quantise() for NF4, FP4 and INT8. Throws unsupported for four bits and an odd number of columns.
QuantisedWeight quantise_as_bitsandbytes(const Tensor& weight, Quantisation how, Dtype values);
int64_t block_count(const Tensor& weight);  // of four bits

}  // namespace loraine
