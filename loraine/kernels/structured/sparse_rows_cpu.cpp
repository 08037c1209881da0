// Sparse products on the CPU: activations row by row, the gradients of the values by rows of the matrix.
#include <algorithm>
#include <cstdint>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/structured/sparse_rows.h"

namespace loraine {

void multiply_sparse_cpu(const Tensor& y, const Tensor& x, const SparseRows& s) {
  const int64_t out = s.out();
  parallel_for(x.rows(), [&](int64_t t) {
    float* room = row_room(out + s.in);
    float* to = begin_row(y, t, room);
    const float* from = read_row(x, t, room + out);
    read_row(y, t, to);
    for (int64_t o = 0; o < out; ++o) {
      float sum = 0;
      const size_t end = static_cast<size_t>(s.starts[static_cast<size_t>(o) + 1]);
      for (size_t i = static_cast<size_t>(s.starts[static_cast<size_t>(o)]); i < end; ++i) sum += s.values[i] * from[s.columns[i]];
      to[o] += sum;
    }
    finish_row(y, t, to);
  });
}

void multiply_sparse_backward_cpu(const Tensor& d_x, std::span<float> d_values, const Tensor& d_y, const Tensor& x, const SparseRows& s) {
  constexpr int64_t kRows = 64;  // of the matrix that are taken together
  const int64_t out = s.out();
  if (d_x.data)
    parallel_for(x.rows(), [&](int64_t t) {
      float* room = row_room(out + s.in);
      float* to = begin_row(d_x, t, room + out);
      const float* from = read_row(d_y, t, room);
      read_row(d_x, t, to);
      for (int64_t o = 0; o < out; ++o) {
        const size_t end = static_cast<size_t>(s.starts[static_cast<size_t>(o) + 1]);
        for (size_t i = static_cast<size_t>(s.starts[static_cast<size_t>(o)]); i < end; ++i) to[s.columns[i]] += s.values[i] * from[o];
      }
      finish_row(d_x, t, to);
    });
  parallel_for((out + kRows - 1) / kRows, [&](int64_t chunk) {
    const int64_t first = chunk * kRows, count = std::min(kRows, out - first);
    const Tensor d_part = d_y.col_range(first, count);
    float* room = row_room(count + s.in);
    for (int64_t t = 0; t < x.rows(); ++t) {
      const float *d = read_row(d_part, t, room), *from = read_row(x, t, room + count);
      for (int64_t o = 0; o < count; ++o) {
        const size_t end = static_cast<size_t>(s.starts[static_cast<size_t>(first + o) + 1]);
        for (size_t i = static_cast<size_t>(s.starts[static_cast<size_t>(first + o)]); i < end; ++i)
          d_values[i] += d[o] * from[s.columns[i]];
      }
    }
  });
}

}  // namespace loraine
