// gpt-oss as it is published: experts in MXFP4 (the OCP Microscaling formats), blocks of 32 numbers of four bits with a power of two for
// each.
#pragma once
#include <memory>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// The source as it is when it holds no such weight; else one that gives P_blocks U8 [E, out, in / 32, 16] and P_scales U8 [E, out, in / 32]
// as P, BF16 [E, in, out], as transformers does when it takes them apart: every value is exact. Its map_pieces are the codes as they lie in
// the file. bad_data when the two do not fit together.
std::unique_ptr<TensorSource> with_mxfp4(std::unique_ptr<TensorSource> source);

}  // namespace loraine
