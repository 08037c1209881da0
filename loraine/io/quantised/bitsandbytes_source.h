// Checkpoints that transformers saved with bitsandbytes: four-bit weights (NF4, FP4) and LLM.int8's, seen as matrices by their names.
#pragma once
#include <memory>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// The source as it is when it holds no such weight; else one that gives them as packed matrices ([out, in], Dtype::NF4, FP4 or INT8), of
// the type that they were quantised from, and hides the tensors of their scales. bad_data when those do not fit together.
std::unique_ptr<TensorSource> with_bitsandbytes(std::unique_ptr<TensorSource> source);

}  // namespace loraine
