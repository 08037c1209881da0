// Kept: what both gave, before the norms on it, and what each of them keeps; their inputs are rebuilt from the norms' statistics.
#include "loraine/model/mixers/mlp_and_experts.h"

#include <algorithm>
#include <cmath>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> MlpAndExpertsConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<MlpAndExperts>(*this, placement, layer);
}

MlpAndExperts::MlpAndExperts(const MlpAndExpertsConfig& c, Placement& p, const std::string& layer)
    : hidden_size_(c.mlp.hidden_size), router_factor_(1 / std::sqrt(static_cast<float>(c.mlp.hidden_size))) {
  const auto place = [&](Norms which, const NormConfig& norm) { norms_[which] = place_norm(p, norm, layer + norm.name, {hidden_size_}); };
  place(kBeforeMlp, c.before_mlp);
  place(kAfterMlp, c.after_mlp);
  place(kBeforeExperts, c.before_experts);
  place(kAfterExperts, c.after_experts);
  norms_[kRouter].config = c.router_norm;
  p.vector(norms_[kRouter].weight, layer + c.router_scale, hidden_size_);
  mlp_ = std::make_unique<Mlp>(c.mlp, p, layer);
  experts_ = std::make_unique<Experts>(c.experts, p, layer);
}

Parts MlpAndExperts::parts() {
  Parts all = mlp_->parts();
  all.add(experts_->parts());
  for (Norm& norm : norms_) add_parts(all, norm);
  return all;
}

std::vector<Tensor> MlpAndExperts::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  std::vector<Tensor> kept = {arena.take(Dtype::F32, {kNorms, rows}), arena.take(type, {rows, hidden_size_}),
                              arena.take(type, {rows, hidden_size_})};
  for (const Tensor& t : mlp_->plan_kept(arena, rows, type)) kept.push_back(t);
  for (const Tensor& t : experts_->plan_kept(arena, rows, type)) kept.push_back(t);
  return kept;
}

size_t MlpAndExperts::scratch_bytes(const PassNeed& need) const {
  const size_t row = static_cast<size_t>(need.rows * hidden_size_), type = size_of(need.type);
  const size_t own = need.training ? 3 * sizeof(float) + 2 * type : sizeof(float) + 2 * type;
  return row * own + std::max(mlp_->scratch_bytes(need), experts_->scratch_bytes(need)) + 64 * 8;
}

Step MlpAndExperts::inner(const Step& s, Kept first) const {
  return {s.ctx, s.model, s.batch, s.pass, s.layer, s.kept_tensors.subspan(first), {}};
}

void MlpAndExperts::norm_given(const Step& s, Norms which, Kept keep, const Tensor& y, const Tensor& given) const {
  const Tensor kept = s.kept(keep);
  convert_rows(s.ctx, kept, given);
  norm_forward(s, norms_[which], y, statistics(s, which), kept);
}

void MlpAndExperts::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor out = s.scratch(Dtype::F32, hidden_size_), h = s.scratch(s.type(), hidden_size_), routed = s.scratch(s.type(), hidden_size_);
  norm_forward(s, norms_[kBeforeMlp], h, statistics(s, kBeforeMlp), x);
  mlp_->forward(inner(s, kMlp), out, h);
  norm_given(s, kAfterMlp, kMlpGave, y.data ? y : out, out);
  norm_forward(s, norms_[kBeforeExperts], h, statistics(s, kBeforeExperts), x);
  norm_forward(s, norms_[kRouter], routed, statistics(s, kRouter), x);
  scale(s.ctx, routed, routed, router_factor_);
  experts_->forward(inner(s, kExperts), out, h, routed);
  norm_given(s, kAfterExperts, kExpertsGave, out, out);
  if (y.data) add(s.ctx, y, y, out);
  s.pass.scratch->release(mark);
}

void MlpAndExperts::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const bool below =
      d_x.data || trains(trained, norms_[kBeforeMlp]) || trains(trained, norms_[kBeforeExperts]) || trains(trained, norms_[kRouter]);
  const Tensor d_given = s.scratch(Dtype::F32, hidden_size_), h = s.scratch(s.type(), hidden_size_),
               routed = s.scratch(s.type(), hidden_size_), d_h = below ? s.scratch(Dtype::F32, hidden_size_) : Tensor(),
               d_routed = below ? s.scratch(Dtype::F32, hidden_size_) : Tensor();
  const auto back = [&](Norms which, const Tensor& d, const Tensor& d_normed, const Tensor& before, bool accumulate) {
    norm_backward(s, norms_[which], trained, d, d_normed, before, statistics(s, which), accumulate);
  };
  back(kAfterMlp, d_given, d_y, s.kept(kMlpGave), false);
  norm_rebuild(s, norms_[kBeforeMlp], h, x, statistics(s, kBeforeMlp));
  mlp_->backward(inner(s, kMlp), trained, d_h, d_given, h);
  if (below) back(kBeforeMlp, d_x, d_h, x, false);

  back(kAfterExperts, d_given, d_y, s.kept(kExpertsGave), false);
  norm_rebuild(s, norms_[kBeforeExperts], h, x, statistics(s, kBeforeExperts));
  norm_rebuild(s, norms_[kRouter], routed, x, statistics(s, kRouter));
  scale(s.ctx, routed, routed, router_factor_);
  experts_->backward(inner(s, kExperts), trained, d_h, d_routed, d_given, h, routed);
  if (below) {
    back(kBeforeExperts, d_x, d_h, x, true);
    scale(s.ctx, d_routed, d_routed, router_factor_);
    back(kRouter, d_x, d_routed, x, true);
  }
  s.pass.scratch->release(mark);
}

}  // namespace loraine
