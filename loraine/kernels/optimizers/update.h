// One update of one parameter, and its running means as they are kept. What the ops of this room have in common; called by
// train/optimizers.
#pragma once
#include <cstdint>

#include "loraine/core/tensor.h"

namespace loraine {

struct Update {
  Tensor value, gradient;  // F32 of one size, contiguous
  float scale = 1;         // the gradient is multiplied by it first: clipping
  double rate = 0;         // learning rate
  double decay = 0;        // weight decay
  int64_t step = 1;        // updates of this parameter with these states, from 1
};

// F32 of the parameter's size; or U8, codes of dynamic_map(with_sign), with a scale for each block of 256 elements, as bitsandbytes'
// block-wise optimizers keep them: of a value the nearest code, of one in the middle the lower.
struct Moment {
  Tensor values;
  Tensor scales;  // F32 [moment_blocks(n)] beside U8, else without data
  bool with_sign = true;
};
inline constexpr int64_t kMomentBlock = 256;
constexpr int64_t moment_blocks(int64_t n) { return (n + kMomentBlock - 1) / kMomentBlock; }

// Elements [first, first + n) as f32, and back; first is a multiple of kMomentBlock, n at most that, and less only at the end.
void read_moment(float* out, const Moment& moment, int64_t first, int64_t n);
void write_moment(const Moment& moment, const float* in, int64_t first, int64_t n);

}  // namespace loraine
