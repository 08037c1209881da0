// A merge in double, row by row and without the kernels, against which what was merged in f32 is held. Called by the adapters; export
// asks them.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "loraine/core/tensor.h"

namespace loraine {

// Row `row` of a weight in double, w [in]: becomes the merged row. Gives how far the sums of a merge in f32 may lie from it.
using MergeRow = std::function<double(std::span<double> w, int64_t row)>;

// w [in] += scale · Σ_k b[k · b_stride] a[k], a [r, in]. Gives the bound for f32: (r + 4) roundings of the largest sum of magnitudes.
class ExactProduct {
 public:
  ExactProduct(const Tensor& a, double scale);
  double add(std::span<double> w, const float* b, int64_t b_stride) const;

 private:
  Tensor a_;
  double scale_;
  std::vector<float> largest_;  // of each row of a
};

// DoRA's: w becomes magnitude · w / ‖w‖. error: that of w in f32; gives that of the result.
double rescale_row(std::span<double> w, double magnitude, double error);

}  // namespace loraine
