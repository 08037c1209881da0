// The state of each answer's last token, through dropout, to its score. Facts: LLaMA-Factory 0.9.5's stage rm, restated.
#include "loraine/train/objectives/reward_objective.h"

#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/gpu/gpu_decoder.h"
#include "loraine/train/objectives/label_logps.h"

namespace loraine {
namespace {

constexpr uint64_t kDropoutSite = 0x76686561ull;  // far above the numbers of a model's sites

double summary_dropout(const nlohmann::json& config) {
  if (!config.contains("summary_dropout_prob") || config["summary_dropout_prob"].is_null()) return 0.1;
  const nlohmann::json& value = config["summary_dropout_prob"];
  const double share = value.is_number() ? value.get<double>() : -1;
  if (!(share >= 0 && share < 1))
    throw Error(ErrorKind::bad_data, "config.json: summary_dropout_prob is " + value.dump() + ", expected a share from 0 to below 1");
  return share;
}

std::vector<int64_t> last_rows(const Batch& batch) {
  std::vector<int64_t> rows;
  for (const Sequence& sequence : batch.sequences) rows.push_back(sequence.start + sequence.length - 1);
  return rows;
}

// The states in those rows, F32 [rows, C], in scratch.
Tensor states_in(Context& ctx, const Tensor& hidden, std::span<const int64_t> rows, int64_t C, Arena& scratch, GpuDecoder* gpu) {
  const auto n = static_cast<int64_t>(rows.size());
  const Tensor states = scratch.take(Dtype::F32, {n, C});
  if (gpu) {
    gpu->states(states, rows);
  } else if (hidden.dtype == Dtype::F32) {
    gather_rows(ctx, states, hidden, rows);
  } else {
    const Tensor rounded = scratch.take(hidden.dtype, {n, hidden.cols()});
    gather_rows(ctx, rounded, hidden, rows);
    convert_rows(ctx, states, rounded);
  }
  return states;
}

// One number per sample out of one per sequence: a sample without rows has none.
std::vector<double> by_sample(std::span<const Example* const> samples, std::span<const double> of_sequences, double otherwise) {
  std::vector<double> all;
  size_t next = 0;
  for (const Example* sample : samples) all.push_back(example_rows(*sample) == 0 ? otherwise : of_sequences[next++]);
  return all;
}

}  // namespace

std::vector<double> reward_scores(Context& ctx, const ValueHead& head, const Tensor& hidden, const Batch& batch,
                                  std::span<const Example* const> samples, Arena& scratch, GpuDecoder* gpu) {
  const size_t mark = scratch.mark();
  const Tensor states = states_in(ctx, hidden, last_rows(batch), head.channels(), scratch, gpu);
  std::vector<double> scores;
  for (int64_t i = 0; i < states.rows(); ++i) scores.push_back(head.score(states.f32() + i * states.row_stride));
  const std::vector<float> nothing(static_cast<size_t>(states.cols()));
  scratch.release(mark);
  return by_sample(samples, scores, head.score(nothing.data()));
}

void RewardObjective::begin(const ObjectiveStart& start) {
  head_.emplace(start.model.config.hidden_size);
  if (!head_->read_if_there(start.folder)) head_->start(start.seed);
  dropout_ = static_cast<float>(summary_dropout(start.config_json));
}

size_t reward_scratch_bytes(const Model& model, int64_t rows) {
  return static_cast<size_t>(3 * rows * model.config.hidden_size) * sizeof(float) + 3 * 64;
}

double RewardObjective::loss(const ObjectivePass& pass) {
  const std::vector<const Example*> samples = samples_of(*this, pass.items);
  const auto n = static_cast<double>(pass.items.size());
  if (!pass.training()) {
    const std::vector<double> scores = reward_scores(pass.ctx, *head_, pass.hidden, pass.batch, samples, pass.scratch, pass.gpu);
    double total = 0;
    for (size_t i = 0; i < scores.size(); i += 2) {
      total -= log_sigmoid(scores[i] - scores[i + 1]) / n;
      pass.figures.add("accuracy", scores[i] > scores[i + 1] ? 1 : 0);
    }
    return total;
  }
  const size_t mark = pass.scratch.mark();
  const std::vector<int64_t> rows = last_rows(pass.batch);
  const Tensor states = states_in(pass.ctx, pass.hidden, rows, head_->channels(), pass.scratch, pass.gpu);
  const Tensor d_states = pass.scratch.take(Dtype::F32, {states.rows(), states.cols()});
  if (dropout_ > 0) dropout(pass.ctx, states, states, dropout_, kDropoutSite);
  std::vector<double> scores;
  for (int64_t i = 0; i < states.rows(); ++i) scores.push_back(head_->score(states.f32() + i * states.row_stride));
  const std::vector<float> nothing(static_cast<size_t>(states.cols()));
  scores = by_sample(samples, scores, head_->score(nothing.data()));
  double total = 0;
  int64_t row = 0;
  for (size_t i = 0; i < scores.size(); i += 2) {
    const double apart = scores[i] - scores[i + 1], d = -sigmoid(-apart) / (n * micro_batches_);
    total -= log_sigmoid(apart) / (n * micro_batches_);
    for (const auto& [sample, gradient] : {std::pair{samples[i], d}, {samples[i + 1], -d}})
      if (example_rows(*sample) > 0) {
        head_->backward(states.f32() + row * states.row_stride, gradient, d_states.f32() + row * d_states.row_stride);
        ++row;
      }
  }
  if (dropout_ > 0) dropout(pass.ctx, d_states, d_states, dropout_, kDropoutSite);
  if (pass.gpu) pass.gpu->put_gradients(d_states, rows);
  else scatter_rows(pass.ctx, pass.d_hidden, d_states, rows);
  pass.scratch.release(mark);
  return total;
}

}  // namespace loraine
