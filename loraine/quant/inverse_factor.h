// What GPTQ asks of a Hessian: the upper triangular factor of its inverse. Called by quant/gptq.
#pragma once
#include <cstdint>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

struct InverseFactor {
  std::vector<int64_t> order;  // the column of the weight at each place of the factor
  std::vector<bool> dead;      // by column of the weight: no input ever had anything there
  Buffer memory;
  Tensor upper;     // [in, in] F32: U with U^T U = (H + damp · mean diagonal · 1)^-1, columns in that order
  double damp = 0;  // as it was needed
};

// hessian [in, in] F32: Σ x xᵀ over calibration rows, times any factor; dead columns get a one on its diagonal. damp: a share of the mean
// of the diagonal, which is raised by kDampStep until there is a factor; throws numeric where 1 is not enough.
inline constexpr double kDampStep = 0.01;
InverseFactor inverse_factor(Context& ctx, const Tensor& hessian, double damp, std::vector<int64_t> order);

// Columns whose inputs are largest first: within each group of `group_size`, and groups by their largest; what is left over behind the last
// whole group stays there. So the group of a column is its place in the file, and g_idx says nothing. (Gafni et al., arXiv 2505.14638.)
std::vector<int64_t> order_within_groups(const Tensor& hessian, int64_t group_size);

}  // namespace loraine
