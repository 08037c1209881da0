// What a base would take less in another form, for the plan of a run that does not fit. Called by train/plan_memory.
#pragma once
#include <cstddef>

#include "loraine/model/model.h"

namespace loraine {

// Bytes that the linear layers of the blocks lose when they are held in NF4 or FP4 with double quantisation: a code of 4 bits per value and
// a scale of a byte per block. Those that are packed already stay as they are.
size_t bytes_saved_by_four_bits(const Model& model);
// Bytes that all matrices in F32 lose with bf16: true, which loads them as BF16.
size_t bytes_saved_by_bf16(const Model& model);

}  // namespace loraine
