// The small space that a matrix's gradient is looked at in (GaLore, APOLLO): matrices that take it there and back, made anew from time to
// time.
#pragma once
#include <string>

#include "loraine/train/optimizers/rule.h"

namespace loraine {

struct LowRankOptions {
  int64_t rank = 128;
  int64_t interval = 200;    // updates between two times that the matrices are made
  std::string side = "std";  // std: the smaller side of the matrix is cut to the rank; reverse_std, left, right, full: both
};

class GradientSpace {
 public:
  // bounded: by the sides of the matrix, as singular vectors are.
  GradientSpace(const LowRankOptions& options, const Tensor& parameter, bool bounded);
  int64_t low_rows() const { return left_ ? rank_ : rows_; }
  int64_t low_cols() const { return right_ ? rank_ : cols_; }
  bool cuts_rows() const { return left_; }
  bool cuts_cols() const { return right_; }
  std::vector<StateShape> states() const;  // left [rows, rank], right [rank, cols], or both
  size_t between() const;                  // floats of scratch that project and project_back take
  // The singular vectors of `gradient`; of each the entry of the largest size is positive.
  void find(Context& ctx, const Tensor& gradient, States matrices) const;
  // Random numbers of variance 1 / rank.
  void draw(uint64_t seed, States matrices) const;
  void project(Context& ctx, const Tensor& low, const Tensor& gradient, States matrices, float* scratch) const;
  void project_back(Context& ctx, const Tensor& full, const Tensor& low, States matrices, float* scratch) const;

 private:
  bool left_ = false, right_ = false;
  int64_t rows_, cols_, rank_;
};

}  // namespace loraine
