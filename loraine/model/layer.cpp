// The walk over branches, forward, once more, and back.
#include "loraine/model/layer.h"

#include <algorithm>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/model/model.h"

namespace loraine {
namespace {

struct At {  // one branch of a pass
  Step s;
  const Branch& branch;
  BranchActivations& saved;
};

At at(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer, size_t branch) {
  BranchActivations& saved = pass.activations->layers[static_cast<size_t>(layer)][branch];
  Step s{ctx, model, batch, pass, layer, saved.kept, {}};
  if (pass.cache) s.carried = pass.cache->layers[static_cast<size_t>(layer)][branch];
  return {s, model.layers[static_cast<size_t>(layer)]->branches[branch], saved};
}

int64_t width(const Step& s) { return s.model.config.hidden_size; }

void scale_stream(const Step& s, const Tensor& x, float factor) {
  if (factor == 1) return;
  if (x.dtype == Dtype::F32) return scale(s.ctx, x, x, factor);
  const Tensor stream = s.rows(s.pass.activations->stream);
  scale(s.ctx, stream, stream, factor);
  convert_rows(s.ctx, x, stream);
}

// to [T, C] = from + scale · y. With BF16 activations `from` and `to` are roundings of the stream, which is kept in F32 for the forward
// alone: what layers compute depends on the roundings, so it can be computed again.
void add_to_stream(const Step& s, const Tensor& to, const Tensor& from, const Tensor& y, float scale) {
  if (to.dtype == Dtype::F32) return scale == 1 ? add(s.ctx, to, from, y) : add_scaled(s.ctx, to, from, y, scale);
  const Tensor stream = s.rows(s.pass.activations->stream);
  if (scale == 1) add_rounded(s.ctx, stream, to, y);
  else add_rounded_scaled(s.ctx, stream, to, y, scale);
}

// The stream after a branch: from where it was, or from the norm h of what the branch reads.
void step_on(const At& a, const Tensor& to, const Tensor& h, const Tensor& y) {
  const Step& s = a.s;
  Tensor from = s.rows(a.saved.sum);
  if (a.branch.normed_residual) {
    from = to;
    scale(s.ctx, to.dtype == Dtype::F32 ? to : s.rows(s.pass.activations->stream), h, *a.branch.normed_residual);
  }
  add_to_stream(s, to, from, y, a.branch.scale);
  scale_stream(s, to, a.branch.stream_scale);
}

// The input of the mixer: x itself, or in scratch its norm.
Tensor normed(const At& a, bool rebuild) {
  const Step& s = a.s;
  const Tensor x = s.rows(a.saved.x);
  if (!a.branch.before) return x;
  const Tensor h = s.scratch(s.type(), width(s));
  if (rebuild) norm_rebuild(s, a.branch.before, h, x, a.saved.before);
  else norm_forward(s, a.branch.before, h, a.saved.before, x);
  return h;
}

// What the branch adds, in y [T, C] F32; the norm after the mixer takes what it gave rounded to the activations' type.
void mix(const At& a, const Tensor& y, const Tensor& h, bool again) {
  const Step& s = a.s;
  a.branch.mixer->forward(s, y, h);
  if (!y.data || !a.branch.after) return;
  const Tensor given = s.rows(a.saved.given);
  convert_rows(s.ctx, given, y);
  if (again) norm_rebuild(s, a.branch.after, y, given, a.saved.after);
  else norm_forward(s, a.branch.after, y, a.saved.after, given);
}

}  // namespace

Parts Branch::parts() {
  Parts all;
  add_parts(all, before);
  all.add(mixer->parts());
  add_parts(all, after);
  return all;
}

Parts Layer::parts() {
  Parts all;
  for (Branch& branch : branches) all.add(branch.parts());
  return all;
}

bool runs_again(const Activations& all, const Branch& branch) {
  return all.recompute == Recompute::block || (all.recompute == Recompute::mlp && branch.mixer->mixes_channels());
}

bool gives_again(const Activations& all, const Layer& layer, size_t branch) {
  if (all.recompute != Recompute::block) return false;
  if (layer.branches[branch].after) return true;
  const bool rounded = all.stream.data != nullptr;
  return !rounded && std::any_of(layer.branches.begin() + static_cast<std::ptrdiff_t>(branch) + 1, layer.branches.end(),
                                 [](const Branch& later) { return !later.beside; });
}

void layer_forward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer, const Tensor& x_next) {
  const Layer& here = *model.layers[static_cast<size_t>(layer)];
  for (size_t b = 0; b < here.branches.size(); ++b) {
    const At a = at(ctx, model, batch, pass, layer, b);
    const size_t mark = pass.scratch->mark();
    const Tensor h = normed(a, false), y = a.s.scratch(Dtype::F32, width(a.s));
    mix(a, y, h, false);
    // The stream goes on from the sum so far, which for a branch beside another is where that one left it.
    const bool last = b + 1 == here.branches.size();
    std::vector<BranchActivations>& saved = pass.activations->layers[static_cast<size_t>(layer)];
    step_on(a, last ? x_next : a.s.rows(saved[b + 1].sum), h, y);
    pass.scratch->release(mark);
  }
}

void layer_again(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer) {
  const Activations& all = *pass.activations;
  if (all.recompute == Recompute::none || layer + 1 == model.config.num_hidden_layers) return;
  const Layer& here = *model.layers[static_cast<size_t>(layer)];
  std::vector<BranchActivations>& saved = pass.activations->layers[static_cast<size_t>(layer)];
  for (size_t b = 0; b < here.branches.size(); ++b) {
    if (!runs_again(all, here.branches[b])) continue;
    const At a = at(ctx, model, batch, pass, layer, b);
    const size_t mark = pass.scratch->mark();
    const bool gives = gives_again(all, here, b);
    const Tensor h = normed(a, true), y = gives ? a.s.scratch(Dtype::F32, width(a.s)) : Tensor();
    mix(a, y, h, true);
    if (gives && all.stream.data == nullptr && b + 1 < here.branches.size()) step_on(a, a.s.rows(saved[b + 1].sum), h, y);
    pass.scratch->release(mark);
  }
}

void layer_backward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer, AdapterSet& trained, const Tensor& d_x,
                    bool first) {
  const Layer& here = *model.layers[static_cast<size_t>(layer)];
  const size_t outer = pass.scratch->mark();
  Tensor d_sum = d_x;  // of the sum after a group of branches that read the same x
  for (size_t b = here.branches.size(); b-- > 0;) {
    const At a = at(ctx, model, batch, pass, layer, b);
    const Step& s = a.s;
    const Branch& branch = a.branch;
    const bool group_ends = b + 1 == here.branches.size() || !here.branches[b + 1].beside;
    if (group_ends) {
      pass.scratch->release(outer);
      if (branch.stream_scale != 1) scale(ctx, d_x, d_x, branch.stream_scale);
      d_sum = d_x;
      if (branch.beside) {  // others of the group still need it, when d_x has this one's part already
        d_sum = s.scratch(Dtype::F32, width(s));
        copy_rows(d_sum, d_x);
      }
    }
    const size_t mark = pass.scratch->mark();
    Tensor d_y = d_sum;
    if (branch.after || branch.scale != 1) {
      d_y = s.scratch(Dtype::F32, width(s));
      if (branch.scale != 1) scale(ctx, d_y, d_sum, branch.scale);
      if (branch.after)
        norm_backward(s, branch.after, trained, d_y, branch.scale != 1 ? d_y : d_sum, s.rows(a.saved.given), a.saved.after, false);
    }
    const Tensor x = s.rows(a.saved.x), h = normed(a, true);
    const bool reads_input = a.saved.x.data == pass.activations->layers[static_cast<size_t>(layer)][0].x.data;
    const bool lowest = first && reads_input, below = !lowest || trains(trained, branch.before);  // something below the mixer is trained
    const Tensor d_h = below ? s.scratch(Dtype::F32, width(s)) : Tensor();
    branch.mixer->backward(s, trained, d_h, d_y, h);
    if (below && branch.normed_residual) add_scaled(ctx, d_h, d_h, d_sum, *branch.normed_residual);
    if (below && branch.before)
      norm_backward(s, branch.before, trained, lowest ? Tensor() : d_x, d_h, x, a.saved.before, !branch.normed_residual);
    else if (below) add(ctx, d_x, d_x, d_h);
    pass.scratch->release(mark);
  }
  pass.scratch->release(outer);
}

bool trains(const AdapterSet& set, Layer& layer) {
  const Parts parts = layer.parts();
  return std::ranges::any_of(parts.sites,
                             [&](const Site* site) {
                               return set.at(site->index) || (set.dense && set.dense->sites[static_cast<size_t>(site->index)].trains());
                             }) ||
         std::ranges::any_of(parts.experts,
                             [&](const ExpertWeights* w) {
                               return set.expert(w->index) ||
                                      (set.dense && !set.dense->experts[static_cast<size_t>(w->index)].gradients.empty());
                             }) ||
         std::ranges::any_of(parts.vectors, [&](const Vector* v) { return gradient_of(set.dense.get(), *v).data != nullptr; }) ||
         std::ranges::any_of(parts.tables, [&](const Table* t) { return gradient_of(set.dense.get(), *t).data != nullptr; });
}

}  // namespace loraine
