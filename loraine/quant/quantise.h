// Quantising a frozen weight while a model is loaded: which codes, and the weight as codes. Called by model/placement, adapters and export.
#pragma once
#include <memory>
#include <string>

#include "loraine/core/tensor.h"

namespace loraine {

struct Quantisation {
  Dtype type = Dtype::NF4;  // NF4, FP4 or INT8 (bitsandbytes); U1_, U2_, U3_, U4_ or U8_GROUPS (HQQ)
  bool nested = true;       // the scales of NF4 and FP4 in 8 bits ("double quantisation")
  bool as_f16 = true;       // INT8: of the weights rounded to f16, as bitsandbytes takes them
  // HQQ. axis 1: groups of so many elements of a row; 0: element i of the flattened matrix is in group i % (numel / group_size).
  int64_t group_size = 64, axis = 1;
  Dtype scales = Dtype::F32;  // and zeros: F32, F16 or BF16
};

// A weight as codes and scales in one piece of memory.
struct QuantisedWeight {
  Tensor weight;  // [rows, cols], points to memory and state
  Buffer memory;
  std::unique_ptr<QuantState> state;
};

// weight: F32, F16, BF16 or, for INT8, packed [rows, cols], contiguous. bitsandbytes' dequantised values are rounded to `values`, as they
// are to the type of a model that it quantised. Reads the weight in parallel; what is not a finite number makes NaN of its block, row or
// group. Throws unsupported where codes or groups do not fit the shape.
QuantisedWeight quantise(const Tensor& weight, Quantisation how, Dtype values);
// How a weight was quantised here.
Quantisation quantisation_of(const Tensor& weight);
// "nf4, scales quantised too", "int8", "HQQ in 4 bits, groups of 64 along axis 1".
std::string quantisation_text(const Quantisation& how);

}  // namespace loraine
