// The matrices of a layer are small, and mixing is one pass over the streams each way.
#include "loraine/model/mixers/altup.h"

#include <algorithm>

#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/model/layer.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

// Small tensors of a row and their roundings: the modalities, matrices, and their gradients.
size_t small_bytes(const AltUpShape& shape, const PassNeed& need) {
  const auto n = static_cast<size_t>(shape.streams);
  return static_cast<size_t>(need.rows) * (8 * n + 5 * n * n) * (sizeof(float) + size_of(need.type)) + 64 * 32;
}

Tensor columns(const Tensor& all, int64_t width, int64_t i) { return all.col_range(i * width, width); }

}  // namespace

std::unique_ptr<Mixer> AltUpPredictConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<AltUpPredict>(*this, placement, layer);
}

AltUpPredict::AltUpPredict(const AltUpPredictConfig& c, Placement& p, const std::string& layer) : shape_(c.shape) {
  const std::string folder = layer + c.folder;
  const int64_t n = shape_.streams;
  p.part(router_, folder + c.router, n, shape_.hidden_size, false, "altup_num_inputs, hidden_size", true);
  p.part(prediction_, folder + c.coefficients, n * n, n, false, "altup_num_inputs², altup_num_inputs", true);
  norm_ = place_norm(p, c.router_norm, folder + c.router_norm.name, {shape_.hidden_size});
}

Parts AltUpPredict::parts() {
  Parts all{{&router_, &prediction_}, {}};
  add_parts(all, norm_);
  return all;
}

std::vector<Tensor> AltUpPredict::plan_kept(Arena& arena, int64_t rows, Dtype) const {
  const int64_t n = shape_.streams;
  return {arena.take(Dtype::F32, {norm_.statistics(), rows}), arena.take(Dtype::F32, {rows, n}), arena.take(Dtype::F32, {rows, n * n})};
}

size_t AltUpPredict::route_bytes(const PassNeed& need) const {
  const size_t C = static_cast<size_t>(shape_.hidden_size), type = size_of(need.type);
  return static_cast<size_t>(need.rows) *
         (C * type + (need.training ? C * sizeof(float) : 0) + (C + static_cast<size_t>(need.adapter_columns)) * type);
}

size_t AltUpPredict::scratch_bytes(const PassNeed& need) const {
  const size_t row = static_cast<size_t>(need.rows * shape_.hidden_size) * sizeof(float);
  return small_bytes(shape_, need) + route_bytes(need) + (need.training ? row : 0);
}

void AltUpPredict::route(const Step& s, const Tensor& modalities, const Tensor& statistics, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor h = s.scratch(s.type(), shape_.hidden_size);
  norm_forward(s, norm_, h, statistics, x);
  linear_forward(s, modalities, h, router_);
  scale(s.ctx, modalities, modalities, 1 / static_cast<float>(shape_.hidden_size));
  soft_cap(s.ctx, modalities, modalities, 1);
  s.pass.scratch->release(mark);
}

void AltUpPredict::route_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_modalities,
                                  const Tensor& modalities, const Tensor& statistics, const Tensor& x, bool again) const {
  soft_cap_backward(s.ctx, d_modalities, modalities, 1);
  scale(s.ctx, d_modalities, d_modalities, 1 / static_cast<float>(shape_.hidden_size));
  const size_t mark = s.pass.scratch->mark();
  const Tensor h = s.scratch(s.type(), shape_.hidden_size);
  norm_rebuild(s, norm_, h, x, statistics);
  if (again && trained.at(router_.index)) linear_forward(s, s.scratch(Dtype::F32, shape_.streams), h, router_);
  const Tensor d_h = d_x.data || trains(trained, norm_) ? s.scratch(Dtype::F32, shape_.hidden_size) : Tensor();
  linear_backward(s, trained, d_h, as_operand(s, d_modalities), h, router_);
  if (d_h.data) norm_backward(s, norm_, trained, d_x, d_h, x, statistics, true);
  s.pass.scratch->release(mark);
}

void AltUpPredict::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor modalities = s.kept(kModalities), matrix = s.kept(kMatrix);
  route(s, modalities, s.kept_tensors[kStatistics], x);
  linear_forward(s, matrix, as_operand(s, modalities), prediction_);
  if (y.data) mix_streams(s.ctx, std::span(&y, 1), StreamViews(x, altup_beside(s, shape_, s.layer)), matrix.col_range(0, shape_.streams));
  s.pass.scratch->release(mark);
}

void AltUpPredict::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const int64_t n = shape_.streams, C = shape_.hidden_size;
  const Tensor modalities = s.kept(kModalities), matrix = s.kept(kMatrix), gradients = altup_gradients(s, shape_),
               of_correction = columns(gradients, C, 0), beside = gradients.col_range(C, shape_.beside()),
               d_first = s.scratch(Dtype::F32, C), d_matrix = s.scratch(Dtype::F32, n * n), d_modalities = s.scratch(Dtype::F32, n);
  add(s.ctx, d_first, d_y, of_correction);
  const StreamViews d_predicted(d_first, beside);
  mix_streams_factors(s.ctx, d_matrix, d_predicted, StreamViews(x, altup_beside(s, shape_, s.layer)));
  if (d_x.data) {
    // To each other stream its prediction's gradient too; x has that of its own already, but for the correction's.
    const Tensor through = s.scratch(Dtype::F32, n * n);
    copy_rows(through, matrix);
    for (int64_t t = 0; t < through.rows(); ++t)
      for (int64_t i = 1; i < n; ++i) through.f32()[t * through.row_stride + i * n + i] += 1;
    mix_streams_backward(s.ctx, StreamViews(d_x, beside), d_predicted, through);
    add(s.ctx, d_x, d_x, of_correction);
  }
  linear_backward(s, trained, d_modalities, as_operand(s, d_matrix), as_operand(s, modalities), prediction_);
  route_backward(s, trained, d_x, d_modalities, modalities, s.kept_tensors[kStatistics], x, true);
  s.pass.scratch->release(mark);
}

std::unique_ptr<Mixer> AltUpCorrectConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<AltUpCorrect>(*this, placement, layer);
}

AltUpCorrect::AltUpCorrect(const AltUpCorrectConfig& config, Placement& p, const std::string& layer)
    : c_(config), input_(config.input, p, layer) {
  const int64_t n = c_.shape.streams;
  p.part(correction_, layer + c_.folder + c_.coefficients, n, n, false, "altup_num_inputs, altup_num_inputs", true);
  p.vector(output_scale_, layer + c_.folder + c_.output_scale, c_.shape.hidden_size);
  input_norm_ = place_norm(p, c_.input_norm, layer + c_.input_norm.name, {c_.shape.hidden_size});
}

Parts AltUpCorrect::parts() {
  Parts all = input_.parts();
  all.sites.push_back(&correction_);
  all.vectors.push_back(&output_scale_);
  add_parts(all, input_norm_);
  return all;
}

std::vector<Tensor> AltUpCorrect::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  const int64_t n = c_.shape.streams;
  std::vector<Tensor> kept = {arena.take(Dtype::F32, {1, rows}), arena.take(Dtype::F32, {1, rows}), arena.take(Dtype::F32, {rows, n}),
                              arena.take(Dtype::F32, {rows, n}), arena.take(type, {rows, c_.shape.hidden_size})};
  for (const Tensor& t : input_.plan_kept(arena, rows, type)) kept.push_back(t);
  return kept;
}

size_t AltUpCorrect::scratch_bytes(const PassNeed& need) const {
  const size_t row = static_cast<size_t>(need.rows * c_.shape.hidden_size), type = size_of(need.type);
  const size_t route = row * (2 * type + sizeof(float)) + static_cast<size_t>(need.rows * need.adapter_columns) * type;
  return row * ((need.training ? 6 : 3) * sizeof(float) + 2 * type) + small_bytes(c_.shape, need) +
         std::max(route, input_.scratch_bytes(need));
}

const BranchActivations& AltUpCorrect::of_branch(const Step& s, size_t branch) const {
  return s.pass.activations->layers[static_cast<size_t>(s.layer)][branch];
}

const AltUpPredict& AltUpCorrect::predict(const Step& s) const {
  return static_cast<const AltUpPredict&>(*s.model.layers[static_cast<size_t>(s.layer)]->branches[c_.predict_branch].mixer);
}

Step AltUpCorrect::of_input(const Step& s) const { return {s.ctx, s.model, s.batch, s.pass, s.layer, s.kept_tensors.subspan(kInput), {}}; }

void AltUpCorrect::correct(const Step& s, const Tensor& factors, const Tensor& modalities) const {
  const bool adapted = std::ranges::any_of(s.pass.adapters, [&](const AdapterSet* set) { return set->at(correction_.index) != nullptr; });
  if (s.pass.training && c_.bounded && adapted) multiply_weight(s.ctx, factors, correction_.weight, as_operand(s, modalities));
  else linear_forward(s, factors, as_operand(s, modalities), correction_);
}

void AltUpCorrect::correct_backward(const Step& s, AdapterSet& trained, const Tensor& d_modalities, const Tensor& d_factors,
                                    const Tensor& modalities) const {
  if (s.pass.training && c_.bounded && trained.at(correction_.index))
    multiply_weight_backward(s.ctx, d_modalities, correction_.weight, as_operand(s, d_factors), false);
  else linear_backward(s, trained, d_modalities, as_operand(s, d_factors), as_operand(s, modalities), correction_);
}

Tensor AltUpCorrect::innovation(const Step& s, const Tensor& x) const {
  const Tensor d = s.scratch(Dtype::F32, c_.shape.hidden_size);
  add_scaled(s.ctx, d, x, s.rows(of_branch(s, c_.predict_branch + 1).x), -1);
  return d;
}

Tensor AltUpCorrect::scaled_output(const Step& s, const Tensor& corrected) const {
  if (!c_.scales_output) return corrected;
  const Tensor out = s.scratch(s.type(), c_.shape.hidden_size);
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    scale_columns(s.ctx, out.row_range(first, count), corrected.row_range(first, count), vector_of(set, output_scale_).f32());
  });
  return out;
}

Tensor AltUpCorrect::matrix_beside(const Step& s) const {
  const int64_t n = c_.shape.streams, width = n + 2;
  const Tensor out = s.scratch(Dtype::F32, (n - 1) * width), factors = s.kept(kFactors),
               matrix = s.rows(of_branch(s, c_.predict_branch).kept[AltUpPredict::kMatrix]);
  for (int64_t t = 0; t < out.rows(); ++t)
    for (int64_t i = 1; i < n; ++i) {
      float* row = out.f32() + t * out.row_stride + (i - 1) * width;
      std::copy_n(matrix.f32() + t * matrix.row_stride + i * n, n, row);
      row[i] += 1;
      row[n] = 1 + factors.f32()[t * factors.row_stride + i];
      row[n + 1] = 1;
    }
  return out;
}

void AltUpCorrect::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const int64_t C = c_.shape.hidden_size;
  const Tensor modalities = s.kept(kModalities), factors = s.kept(kFactors), given = s.kept(kGiven);
  predict(s).route(s, modalities, s.kept_tensors[kRouterStatistics], x);
  correct(s, factors, modalities);
  const Tensor d = innovation(s, x), change = y.data ? y : s.scratch(Dtype::F32, C), corrected = s.scratch(s.type(), C),
               out = s.scratch(Dtype::F32, C);
  mix_streams(s.ctx, std::span(&change, 1), std::span(&d, 1), factors.col_range(0, 1));
  add(s.ctx, corrected, x, change);
  input_.forward(of_input(s), out, scaled_output(s, corrected));
  convert_rows(s.ctx, given, out);
  norm_forward(s, input_norm_, out, s.kept_tensors[kInputStatistics], given);
  if (y.data) {  // the next layer's are still there when this is computed once more
    StreamViews all(s.rows(of_branch(s, c_.predict_branch).x), altup_beside(s, c_.shape, s.layer)), beside;
    all.add(d);
    all.add(out);
    const Tensor next = altup_beside(s, c_.shape, s.layer + 1);
    for (int64_t i = 0; i + 1 < c_.shape.streams; ++i) beside.add(columns(next, C, i));
    mix_streams(s.ctx, beside, all, matrix_beside(s));
  }
  s.pass.scratch->release(mark);
}

void AltUpCorrect::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const int64_t n = c_.shape.streams, C = c_.shape.hidden_size;
  const Tensor modalities = s.kept(kModalities), factors = s.kept(kFactors), gradients = altup_gradients(s, c_.shape),
               d_beside = gradients.col_range(C, c_.shape.beside()), d = innovation(s, x), change = s.scratch(Dtype::F32, C),
               corrected = s.scratch(s.type(), C);
  mix_streams(s.ctx, std::span(&change, 1), std::span(&d, 1), factors.col_range(0, 1));
  add(s.ctx, corrected, x, change);
  const Tensor read = scaled_output(s, corrected);

  const Tensor d_out = change, d_given = s.scratch(Dtype::F32, C), d_read = s.scratch(Dtype::F32, C);
  copy_rows(d_out, columns(d_beside, C, 0));
  for (int64_t i = 1; i + 1 < n; ++i) add(s.ctx, d_out, d_out, columns(d_beside, C, i));
  norm_backward(s, input_norm_, trained, d_given, d_out, s.kept(kGiven), s.kept_tensors[kInputStatistics], false);
  input_.backward(of_input(s), trained, d_read, d_given, read);
  if (c_.scales_output) {
    if (const Tensor d_scale = gradient_of(trained.dense.get(), output_scale_); d_scale.data) {
      const Tensor ones = s.pass.scratch->take(Dtype::F32, {s.batch.rows()});
      std::fill_n(ones.f32(), ones.numel(), 1.0f);
      norm_weight_gradient(s.ctx, d_scale, d_read, corrected, ones);
    }
    scale_columns(s.ctx, d_read, d_read, vector_of(trained.dense.get(), output_scale_).f32());
  }

  const Tensor d_change = change, d_d = d_given, d_factors = s.scratch(Dtype::F32, n), by = s.scratch(Dtype::F32, n),
               d_modalities = s.scratch(Dtype::F32, n);
  add(s.ctx, d_change, d_y, d_read);
  const StreamViews d_corrected(d_change, d_beside);
  mix_streams_factors(s.ctx, d_factors, d_corrected, std::span(&d, 1));
  copy_rows(by, factors);
  for (int64_t t = 0; t < by.rows(); ++t)
    for (int64_t i = 1; i < n; ++i) by.f32()[t * by.row_stride + i] += 1;
  mix_streams(s.ctx, std::span(&d_d, 1), d_corrected, by);
  scale(s.ctx, columns(gradients, C, 0), d_d, -1);
  if (d_x.data) add(s.ctx, d_x, d_d, d_read);
  correct_backward(s, trained, d_modalities, d_factors, modalities);
  predict(s).route_backward(s, trained, d_x, d_modalities, modalities, s.kept_tensors[kRouterStatistics], x, false);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
