// Keeps what both matrices give.
#include "loraine/model/mixers/laurel.h"

#include <algorithm>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> LaurelConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<Laurel>(*this, placement, layer);
}

Laurel::Laurel(const LaurelConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  p.part(left_, folder + c_.left, c_.rank, c_.hidden_size, false, "laurel_rank, hidden_size");
  p.part(right_, folder + c_.right, c_.hidden_size, c_.rank, false, "hidden_size, laurel_rank");
  norm_ = place_norm(p, c_.norm, folder + c_.norm.name, {c_.hidden_size});
}

Parts Laurel::parts() {
  Parts all{{&left_, &right_}, {}};
  add_parts(all, norm_);
  return all;
}

std::vector<Tensor> Laurel::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, c_.rank}), arena.take(type, {rows, c_.hidden_size}), arena.take(Dtype::F32, {norm_.statistics(), rows})};
}

size_t Laurel::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), rank = static_cast<size_t>(c_.rank);
  return static_cast<size_t>(need.rows) *
         (C * sizeof(float) + (rank + C) * type + (std::max(C, rank) + static_cast<size_t>(need.adapter_columns)) * type);
}

void Laurel::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor low = s.kept(kLow), given = s.kept(kGiven);
  linear_forward(s, low, x, left_);
  linear_forward(s, given, low, right_);
  const size_t mark = s.pass.scratch->mark();
  const Tensor normed = y.data ? y : s.scratch(Dtype::F32, c_.hidden_size);  // else for the statistics alone
  norm_forward(s, norm_, normed, s.kept_tensors[kStatistics], given);
  if (y.data) add(s.ctx, y, y, x);
  s.pass.scratch->release(mark);
}

void Laurel::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor d_given = s.scratch(Dtype::F32, c_.hidden_size), d_low = s.scratch(s.type(), c_.rank);
  norm_backward(s, norm_, trained, d_given, d_y, s.kept(kGiven), s.kept_tensors[kStatistics], false);
  linear_backward(s, trained, d_low, as_operand(s, d_given), s.kept(kLow), right_);
  linear_backward(s, trained, d_x, d_low, x, left_);
  if (d_x.data) add(s.ctx, d_x, d_x, d_y);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
