// AWQ (Lin et al., arXiv 2306.00978): which columns are scaled up before they are rounded, and where ranges are cut, by what they do to the
// products. Called by export/calibrated/awq_model.
#pragma once
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"
#include "loraine/quant/gptq.h"

namespace loraine {

// weight [out, in] F32 becomes what its codes stand for: from the smallest value of a group to its largest, with a zero point.
GroupCodes round_with_zeros(const Tensor& weight, const GroupScheme& scheme);

// Of matrices [out_i, in] F32 with one input: the scale of each column, s = mean|x|^r / (size of the weights)^(1 − r), for the r in
// 0, 0.05, … 0.95 whose rounded matrices Q(W s) / s give the smallest squared error of the products, Σ (Q(W s) / s − W) H (…)ᵀ. hessian
// [in, in] F32: Σ x xᵀ; sizes [in]: mean |x|.
std::vector<float> awq_scales(Context& ctx, const std::vector<Tensor>& weights, const Tensor& hessian, const std::vector<float>& sizes,
                              const GroupScheme& scheme);

// Cuts the values of each group of each row at the size, 1 to 0.55 of its largest, that gives the smallest squared error of the group's
// part of the product.
void awq_clip(const Tensor& weight, const Tensor& hessian, const GroupScheme& scheme);

}  // namespace loraine
