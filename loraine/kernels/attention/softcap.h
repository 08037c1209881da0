// The softcap of attention scores (Gemma 2): cap · tanh(score / cap). Called by attention on pieces of rows.
#pragma once
#include "loraine/kernels/attention/attention.h"

namespace loraine {

// s = cap · tanh(s · scale / cap), of at most kKeyTile scores
void cap_row(float* s, int64_t n, float scale, float cap);
// The same for a shape with softcap; returns what the scores must still be multiplied by.
inline float cap_scores(float* s, int64_t n, const AttentionShape& shape) {
  if (shape.softcap <= 0) return shape.scale;
  cap_row(s, n, shape.scale, shape.softcap);
  return 1;
}
// For a shape with softcap: the same, and d_p = (d_p − delta) · scale · (1 − (s / cap)²) with the capped s.
void cap_scores_backward(float* s, float* d_p, int64_t n, const AttentionShape& shape, float delta);

}  // namespace loraine
