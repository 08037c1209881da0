// Rotary embedding on the CPU: one table of cos and sin per row, used by all its heads.
#include <cmath>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/attention/rope.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void turn_row(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cosine, const float* sine) {
  for (int64_t h = 0; h < heads; ++h) {
    float *x1 = x + h * head_dim, *x2 = x1 + half;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      float a = x1[i], b = x2[i];
      x1[i] = a * cosine[i] - b * sine[i];
      x2[i] = b * cosine[i] + a * sine[i];
    }
  }
}

LORAINE_CLONES void turn_pairs(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cosine, const float* sine) {
  for (int64_t h = 0; h < heads; ++h) {
    float* pair = x + h * head_dim;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      float a = pair[2 * i], b = pair[2 * i + 1];
      pair[2 * i] = a * cosine[i] - b * sine[i];
      pair[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
  }
}

}  // namespace

void rope_cpu(const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
              float scale, float direction, RopeLayout layout, int64_t first) {
  int64_t half = static_cast<int64_t>(inverse_frequencies.size()), heads = x.cols() / head_dim;
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float *room = row_room(x.cols() + 2 * half), *cosine = room + x.cols(), *sine = cosine + half;
        for (int64_t i = 0; i < half; ++i) {
          float angle = static_cast<float>(positions[static_cast<size_t>(t)]) * inverse_frequencies[static_cast<size_t>(i)];
          cosine[i] = std::cos(angle) * scale;
          sine[i] = std::sin(angle) * scale * direction;
        }
        float* row = begin_row(x, t, room);
        read_row(x, t, row);
        if (layout == RopeLayout::half) turn_row(row + first, heads, head_dim, half, cosine, sine);
        else turn_pairs(row + first, heads, head_dim, half, cosine, sine);
        finish_row(x, t, row);
      },
      row_chunk(x.cols()));
}

}  // namespace loraine
