// A factor per row, in scratch.
#include "loraine/model/mixers/temperature.h"

#include <cmath>

#include "loraine/kernels/rows/row_factors.h"

namespace loraine {

void heat(const Step& s, const Tensor& q, const Temperature& temperature) {
  if (temperature.beta == 0) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor factors = s.scratch(Dtype::F32, 1);
  for (int64_t row = 0; row < s.batch.rows(); ++row) {
    const float position = static_cast<float>(s.batch.positions[static_cast<size_t>(row)]) + temperature.offset;
    factors.f32()[row] = 1 + temperature.beta * std::log1p(std::floor(position / static_cast<float>(temperature.length)));
  }
  scale_rows(s.ctx, q, std::span(factors.f32(), static_cast<size_t>(s.batch.rows())));
  s.pass.scratch->release(mark);
}

}  // namespace loraine
