// Products with the two matrices, and their making.
#include "loraine/train/optimizers/gradient_space.h"

#include <algorithm>
#include <cmath>

#include "loraine/adapters/low_rank.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/train/optimizers/torch_random.h"

namespace loraine {
namespace {

// Row i of `rows` [r, n] (or column i, where `step` is 1 and the columns lie `stride` apart) gets the sign that makes its largest entry
// positive.
void settle_sign(float* first, int64_t n, int64_t stride) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::fabs(first[i * stride]) > std::fabs(largest)) largest = first[i * stride];
  if (largest < 0)
    for (int64_t i = 0; i < n; ++i) first[i * stride] = -first[i * stride];
}

}  // namespace

GradientSpace::GradientSpace(const LowRankOptions& options, const Tensor& parameter, bool bounded)
    : rows_(parameter.rows()), cols_(parameter.cols()), rank_(bounded ? std::min({options.rank, rows_, cols_}) : options.rank) {
  const bool tall = rows_ >= cols_;
  left_ = options.side == "left" || options.side == "full" || (options.side == "std" && !tall) || (options.side == "reverse_std" && tall);
  right_ = options.side == "full" || !left_;
}

std::vector<StateShape> GradientSpace::states() const {
  std::vector<StateShape> states;
  if (left_) states.push_back({"left", Dtype::F32, {rows_, rank_}});
  if (right_) states.push_back({"right", Dtype::F32, {rank_, cols_}});
  return states;
}

size_t GradientSpace::between() const { return left_ && right_ ? static_cast<size_t>(rank_ * cols_) : 0; }

void GradientSpace::find(Context& ctx, const Tensor& gradient, States matrices) const {
  Factors found = largest_singular(ctx, gradient, rank_);
  for (int64_t k = 0; k < rank_; ++k) {
    settle_sign(found.left.data() + k, rows_, rank_);
    settle_sign(found.right.data() + k * cols_, cols_, 1);
  }
  if (left_) std::ranges::copy(found.left, matrices.front().f32());
  if (right_) std::ranges::copy(found.right, matrices.back().f32());
}

void GradientSpace::draw(uint64_t seed, States matrices) const {
  const float root = static_cast<float>(std::sqrt(static_cast<double>(rank_)));
  for (const Tensor& matrix : matrices) {
    torch_normal({matrix.f32(), static_cast<size_t>(matrix.numel())}, seed);
    for (int64_t i = 0; i < matrix.numel(); ++i) matrix.f32()[i] /= root;
  }
}

void GradientSpace::project(Context& ctx, const Tensor& low, const Tensor& gradient, States matrices, float* scratch) const {
  const Tensor g(gradient.data, Dtype::F32, {rows_, cols_});
  if (!left_) return matmul_nt(ctx, low, g, matrices.back());
  const Tensor between = right_ ? Tensor(scratch, Dtype::F32, {rank_, cols_}) : low;
  matmul_tn(ctx, between, matrices.front(), g);
  if (right_) matmul_nt(ctx, low, between, matrices.back());
}

void GradientSpace::project_back(Context& ctx, const Tensor& full, const Tensor& low, States matrices, float* scratch) const {
  if (!left_) return matmul_nn(ctx, full, low, matrices.back());
  const Tensor between = right_ ? Tensor(scratch, Dtype::F32, {rank_, cols_}) : low;
  if (right_) matmul_nn(ctx, between, low, matrices.back());
  matmul_nn(ctx, full, matrices.front(), between);
}

}  // namespace loraine
