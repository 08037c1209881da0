// Quantising a weight as bitsandbytes does (functional.py quantize_4bit, int8_vectorwise_quant): the same codes and scales, bit for bit.
// Called while a model is loaded, and by export.
#pragma once
#include <memory>

#include "loraine/core/tensor.h"

namespace loraine {

struct Quantisation {
  Dtype type = Dtype::NF4;  // NF4, FP4 or INT8
  bool nested = true;       // the scales of NF4 and FP4 in 8 bits ("double quantisation")
  bool as_f16 = true;       // INT8: of the weights rounded to f16, as bitsandbytes takes them
};

// A weight as codes and scales in one piece of memory.
struct QuantisedWeight {
  Tensor weight;  // [rows, cols], points to memory and state
  Buffer memory;
  std::unique_ptr<QuantState> state;
};

// weight: F32, F16, BF16 or, for INT8, packed [rows, cols], contiguous. Dequantised values are rounded to `values`, as they are to the type
// of a model that bitsandbytes quantised. Blocks and rows in parallel; reads the weight once. What is not a finite number makes NaN of its
// block or row. Throws unsupported for four bits and an odd number of columns.
QuantisedWeight quantise(const Tensor& weight, Quantisation how, Dtype values);
int64_t block_count(const Tensor& weight);  // of four bits

}  // namespace loraine
