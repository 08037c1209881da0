// A packed weight in device memory: its codes as they are, and the scales that they mean something by. Called by gpu_model and gpu_decoder.
#pragma once
#include <vector>

#include "loraine/core/gpu_arena.h"

namespace loraine {

// One tensor of the host and its place, of one shape; `from` F32, F16 or BF16 and without data zeros, or U8 that are moved as they are.
struct GpuPiece {
  Tensor from, to;
  int64_t width = 0;  // not 0: up to it rows of `to` are filled with zeros, from one to the next
  int64_t row() const { return width ? width : to.cols(); }
};

// A part of a site of which some part is packed.
struct GpuPackedPart {
  int64_t row = 0;    // its first row in the site
  Tensor weight;      // [rows, in]: codes, or values in the activations' type
  QuantState state;   // of codes; its pointers are of device memory
  int64_t first = 0;  // the element of `state` that it begins with
};

bool gpu_unpacks(Dtype type);  // NF4, FP4, INT8, MXFP4_CODES
// Room for the codes and scales of a weight, which pieces then holds. unsupported for other types.
GpuPackedPart packed_part(const Tensor& weight, int64_t row, GpuArena& arena, std::vector<GpuPiece>& pieces);
// out [rows, in], contiguous, in the activations' type.
void unpack(GpuStream& stream, const Tensor& out, const GpuPackedPart& part);

}  // namespace loraine
