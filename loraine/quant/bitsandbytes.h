// Quantising a weight as bitsandbytes does (functional.py quantize_4bit, int8_vectorwise_quant): the same codes and scales, bit for bit.
// Called while a model is loaded, and by export.
#pragma once
#include <memory>

#include "loraine/core/tensor.h"

namespace loraine {

struct Quantisation {
  Dtype type = Dtype::NF4;  // NF4, FP4 or INT8
  bool nested = true;       // the scales of NF4 and FP4 in 8 bits ("double quantisation")
};

// A weight [rows, cols] as codes and scales in one piece of memory. Movable; views into it keep pointing to `state`.
class QuantisedWeight {
 public:
  // weight: F32, F16 or BF16, contiguous. Dequantised values are rounded to `values`, as they are to the type of a model that bitsandbytes
  // quantised. Blocks and rows in parallel; reads the weight once. Throws unsupported for four bits and an odd number of columns.
  QuantisedWeight(const Tensor& weight, Quantisation how, Dtype values);
  Tensor tensor() const;
  const QuantState& state() const { return *state_; }
  int64_t blocks() const;  // of four bits
  size_t bytes() const { return memory_.bytes(); }

 private:
  Dtype type_;
  int64_t rows_, cols_;
  Buffer memory_;
  std::unique_ptr<QuantState> state_;
};

// Bytes that a weight takes with its scales.
size_t quantised_bytes(int64_t rows, int64_t cols, Quantisation how);

}  // namespace loraine
