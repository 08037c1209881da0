// The streams of all layers lie in what the first layer's branch leaves, one after the other; without training in one place.
#include "loraine/model/mixers/altup_streams.h"

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

constexpr float kLeast = 1e-5f;  // of the mean square that a stream is divided by

const std::vector<Tensor>& left_by_start(const Step& s, const AltUpShape& shape) {
  return s.pass.activations->layers[0][shape.start_branch].lasting;
}

void place_projections(std::vector<Site>& sites, Placement& p, const AltUpShape& shape, const char* name) {
  const std::string& embedding = p.config().names.embedding;
  const std::string folder = embedding.substr(0, embedding.rfind('.') + 1) + name + ".";
  sites.resize(static_cast<size_t>(shape.streams - 1));
  for (size_t i = 0; i < sites.size(); ++i) {
    p.part(sites[i], folder + std::to_string(i), shape.hidden_size, shape.hidden_size, false, "hidden_size, hidden_size");
    sites[i].gives_output = true;
  }
}

Parts parts_of(std::vector<Site>& sites) {
  Parts all;
  for (Site& site : sites) all.sites.push_back(&site);
  return all;
}

Tensor stream_of(const Tensor& beside, const AltUpShape& shape, size_t i) {
  return beside.col_range(static_cast<int64_t>(i) * shape.hidden_size, shape.hidden_size);
}

size_t projection_bytes(const AltUpShape& shape, const PassNeed& need, size_t streams) {
  const size_t C = static_cast<size_t>(shape.hidden_size), type = size_of(need.type);
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type;
  return static_cast<size_t>(need.rows) * (streams * C * sizeof(float) + narrow + (C + static_cast<size_t>(need.adapter_columns)) * type);
}

}  // namespace

StreamViews::StreamViews(const Tensor& x, const Tensor& beside) {
  add(x);
  for (int64_t first = 0; first < beside.cols(); first += x.cols()) add(beside.col_range(first, x.cols()));
}

void StreamViews::add(const Tensor& stream) {
  if (count_ == kMostStreams) throw Error(ErrorKind::internal, "more streams than one call of mix_streams takes");
  all_[count_++] = stream;
}

Tensor altup_beside(const Step& s, const AltUpShape& shape, int64_t layer) {
  const std::vector<Tensor>& left = left_by_start(s, shape);
  return s.rows(left[left.size() == 1 ? 0 : static_cast<size_t>(layer)]);
}

Tensor altup_gradients(const Step& s, const AltUpShape& shape) {
  return s.rows(left_by_start(s, shape)[static_cast<size_t>(shape.layers) + 1]);
}

std::unique_ptr<Mixer> AltUpStartConfig::place(Placement& placement, const std::string&) const {
  return std::make_unique<AltUpStart>(*this, placement);
}

AltUpStart::AltUpStart(const AltUpStartConfig& config, Placement& p) : shape_(config.shape) {
  place_projections(projections_, p, shape_, "altup_projections");
}

Parts AltUpStart::parts() { return parts_of(projections_); }

std::vector<Tensor> AltUpStart::plan_lasting(Arena& arena, int64_t rows, Dtype type, bool training) const {
  std::vector<Tensor> lasting = {arena.take(type, {rows, shape_.beside()})};
  if (!training) return lasting;
  for (int64_t layer = 0; layer < shape_.layers; ++layer) lasting.push_back(arena.take(type, {rows, shape_.beside()}));
  lasting.push_back(arena.take(Dtype::F32, {rows, shape_.streams * shape_.hidden_size}));
  lasting.push_back(arena.take(type, {rows, shape_.beside()}));
  return lasting;
}

size_t AltUpStart::scratch_bytes(const PassNeed& need) const { return projection_bytes(shape_, need, need.training ? 2 : 0); }

// What the matrices give: kept to train, else made where the streams lie.
Tensor AltUpStart::products(const Step& s) const {
  return s.pass.activations->training ? s.rows(left_by_start(s, shape_).back()) : altup_beside(s, shape_, 0);
}

void AltUpStart::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  if (!y.data) return;  // all of it is still there
  std::memset(y.data, 0, y.bytes());
  const Tensor beside = altup_beside(s, shape_, 0);
  for (size_t i = 0; i < projections_.size(); ++i) {
    const Tensor product = stream_of(products(s), shape_, i);
    linear_forward(s, product, x, projections_[i]);
    match_size(s.ctx, stream_of(beside, shape_, i), product, x, kLeast);
  }
}

void AltUpStart::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor&, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor gradients = altup_gradients(s, shape_), d_product = s.scratch(Dtype::F32, shape_.hidden_size),
               d_own = d_x.data ? s.scratch(Dtype::F32, shape_.hidden_size) : Tensor();
  if (d_x.data) std::memset(d_x.data, 0, d_x.bytes());
  for (size_t i = 0; i < projections_.size(); ++i) {
    const size_t inner = s.pass.scratch->mark();
    match_size_backward(s.ctx, d_product, d_x, stream_of(gradients, shape_, i + 1), stream_of(products(s), shape_, i), x, kLeast);
    linear_backward(s, trained, d_own, as_operand(s, d_product), x, projections_[i]);
    if (d_x.data) add(s.ctx, d_x, d_x, d_own);
    s.pass.scratch->release(inner);
  }
  s.pass.scratch->release(mark);
}

std::unique_ptr<Mixer> AltUpEndConfig::place(Placement& placement, const std::string&) const {
  return std::make_unique<AltUpEnd>(*this, placement);
}

AltUpEnd::AltUpEnd(const AltUpEndConfig& config, Placement& p) : shape_(config.shape) {
  place_projections(projections_, p, shape_, "altup_unembed_projections");
}

Parts AltUpEnd::parts() { return parts_of(projections_); }

std::vector<Tensor> AltUpEnd::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, shape_.beside()})};
}

size_t AltUpEnd::scratch_bytes(const PassNeed& need) const { return projection_bytes(shape_, need, 2); }

void AltUpEnd::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor beside = altup_beside(s, shape_, shape_.layers), matched = s.scratch(Dtype::F32, shape_.hidden_size);
  const float share = 1 / static_cast<float>(shape_.streams);
  if (y.data) scale(s.ctx, y, x, share - 1);
  for (size_t i = 0; i < projections_.size(); ++i) {
    const Tensor product = stream_of(s.kept(0), shape_, i);
    linear_forward(s, product, stream_of(beside, shape_, i), projections_[i]);
    if (!y.data) continue;
    match_size(s.ctx, matched, product, x, kLeast);
    add_scaled(s.ctx, y, y, matched, share);
  }
  s.pass.scratch->release(mark);
}

void AltUpEnd::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor beside = altup_beside(s, shape_, shape_.layers), gradients = altup_gradients(s, shape_),
               d_product = s.scratch(Dtype::F32, shape_.hidden_size), d_mean = s.scratch(Dtype::F32, shape_.hidden_size);
  const float share = 1 / static_cast<float>(shape_.streams);
  scale(s.ctx, d_mean, d_y, share);
  if (d_x.data) scale(s.ctx, d_x, d_y, share - 1);
  for (size_t i = 0; i < projections_.size(); ++i) {
    const size_t inner = s.pass.scratch->mark();
    match_size_backward(s.ctx, d_product, d_x, d_mean, stream_of(s.kept(0), shape_, i), x, kLeast);
    linear_backward(s, trained, stream_of(gradients, shape_, i + 1), as_operand(s, d_product), stream_of(beside, shape_, i),
                    projections_[i]);
    s.pass.scratch->release(inner);
  }
  s.pass.scratch->release(mark);
}

}  // namespace loraine
