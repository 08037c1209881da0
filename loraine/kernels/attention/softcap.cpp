// tanh from e^2x, and near 0, where that would lose digits, the polynomial of Cephes' tanhf.
#include "loraine/kernels/attention/softcap.h"

#include <cmath>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/attention/attention_tiles.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

// s = cap · tanh(s · by); e = e^(2s · by)
LORAINE_CLONES void cap_from(float* s, const float* e, int64_t n, float by, float cap) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float y = s[i] * by, z = y * y;
    const float p =
        (((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - 5.37397155531e-2f) * z + 1.33314422036e-1f) * z - 3.33332819422e-1f;
    const float near = y + y * z * p, far = 1.0f - 2.0f / (e[i] + 1.0f);
    s[i] = cap * (std::abs(y) < 0.625f ? near : far);
  }
}

LORAINE_CLONES void scale_by_slope(float* d_p, const float* capped, int64_t n, float scale, float by, float delta) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float t = capped[i] * by;
    d_p[i] = (d_p[i] - delta) * (scale - scale * t * t);
  }
}

}  // namespace

void cap_row(float* s, int64_t n, float scale, float cap) {
  float e[kKeyTile];
  exp_row(e, Dtype::F32, s, n, 2 * scale / cap, 0);
  cap_from(s, e, n, scale / cap, cap);
}

void cap_scores_backward(float* s, float* d_p, int64_t n, const AttentionShape& shape, float delta) {
  cap_row(s, n, shape.scale, shape.softcap);
  scale_by_slope(d_p, s, n, shape.scale, 1 / shape.softcap, delta);
}

}  // namespace loraine
