// The rotations of a model's positions: frequencies with the scalings of transformers (modeling_rope_utils), made by the families.
#pragma once
#include <cstdint>
#include <vector>

#include "loraine/kernels/attention/rope.h"
#include "loraine/model/step.h"

namespace loraine {

struct Rope {
  std::vector<float> frequencies;  // [rotated dims / 2]
  float scale = 1;                 // on cos and sin
  RopeLayout layout = RopeLayout::half;
  int64_t first = 0;  // where in a head the rotated dims begin
  // For sequences longer than `original_length` (0: there are no others).
  int64_t original_length = 0;
  std::vector<float> long_frequencies;  // longrope: in the place of `frequencies`
  float long_scale = 1;
  double dynamic_factor = 0, theta = 0;  // dynamic: theta grows with the sequence

  // Those for a sequence of this length. transformers chooses by the longest row of a padded batch; here every sequence has its own.
  std::vector<float> frequencies_for(int64_t length) const;
  // Sequences up to this length turn their rows alike wherever these end.
  int64_t alike_up_to() const { return original_length == 0 ? INT64_MAX : original_length; }
};

// In place on x [T, H · head_dim], at the batch's positions.
void rotate(const Step& s, const Rope& rope, const Tensor& x, int64_t head_dim);
void rotate_backward(const Step& s, const Rope& rope, const Tensor& d_x, int64_t head_dim);

}  // namespace loraine
