// GPTQ (Frantar et al., arXiv 2210.17323): a matrix to codes, column by column, what each rounding loses put onto the columns that come
// later. Called by export/calibrated.
#pragma once
#include <cstdint>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"
#include "loraine/quant/inverse_factor.h"

namespace loraine {

struct GroupScheme {
  int64_t bits = 4, group_size = 128;  // of columns of a row that share a scale; the last group may be shorter
  bool f16_scales = true;              // scales are rounded as the file has them, before anything is rounded to them
  int64_t groups(int64_t in) const { return (in + group_size - 1) / group_size; }
};

// Codes of [out, in]: element = (code − zero) · scale of its group.
struct GroupCodes {
  std::vector<uint8_t> codes;  // [out, in]
  std::vector<float> scales;   // [out, groups]
  std::vector<uint8_t> zeros;  // [out, groups]
};

// The scale of a group whose range is symmetric: the zero is 2^(bits − 1).
float symmetric_scale(const float* values, int64_t count, const GroupScheme& scheme);

// weight [out, in] F32 becomes what its codes stand for. Symmetric.
GroupCodes gptq_quantise(Context& ctx, const Tensor& weight, const InverseFactor& factor, const GroupScheme& scheme);
// The same, each number by itself to the nearest code.
GroupCodes round_to_nearest(const Tensor& weight, const GroupScheme& scheme);

// Σ over rows of (a − b) H (a − b)ᵀ: the squared error of the products, in units of the hessian's. a, b [out, in] F32.
double product_error(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& hessian);

}  // namespace loraine
