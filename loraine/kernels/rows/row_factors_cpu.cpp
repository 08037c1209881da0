// Row by row.
#include <algorithm>
#include <cmath>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"

namespace loraine {
namespace {

// y[t] = f(x[t], t) by elements; what f reads of another tensor comes as its row.
template <class F>
void each_row(const Tensor& y, const Tensor& x, const F& f) {
  const int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float *room = row_room(2 * C), *out = begin_row(y, t, room);
        f(out, read_row(x, t, room + C), t);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

}  // namespace

void scale_rows_cpu(const Tensor& x, std::span<const float> factors) {
  each_row(x, x, [&](float* out, const float* in, int64_t t) {
    const float factor = factors[static_cast<size_t>(t)];
    for (int64_t c = 0; c < x.cols(); ++c) out[c] = in[c] * factor;
  });
}

void clamp_cpu(const Tensor& y, const Tensor& x, float limit) {
  each_row(y, x, [&](float* out, const float* in, int64_t) {
    for (int64_t c = 0; c < y.cols(); ++c) out[c] = std::clamp(in[c], -limit, limit);
  });
}

void clamp_backward_cpu(const Tensor& d, const Tensor& y, float limit) {
  each_row(d, y, [&](float* out, const float* in, int64_t t) {
    read_row(d, t, out);
    for (int64_t c = 0; c < d.cols(); ++c)
      if (std::abs(in[c]) >= limit) out[c] = 0;
  });
}

}  // namespace loraine
