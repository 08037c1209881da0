// Row by row, piece by piece.
#include <algorithm>
#include <cstdint>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"

namespace loraine {

void exchange_pieces_cpu(const Tensor& y, const Tensor& x, int64_t A, int64_t B, int64_t n) {
  const int64_t C = x.cols(), group = C / n, s = group / (A * B);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        const float* in = read_row(x, t, room);
        float* out = begin_row(y, t, room + C);
        for (int64_t g = 0; g < n; ++g)
          for (int64_t a = 0; a < A; ++a)
            for (int64_t b = 0; b < B; ++b) std::copy_n(in + g * group + (a * B + b) * s, s, out + g * group + (b * A + a) * s);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

}  // namespace loraine
