// Places of labels among the rows of a batch, a few rows of logits at a time, and back.
#include "loraine/train/objectives/decision_objective.h"

#include <algorithm>
#include <cmath>

#include "loraine/data/examples/batcher.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/train/config/decisions.h"
#include "loraine/train/objectives/decision_loss.h"

namespace loraine {
namespace {

constexpr int64_t kRowsAtATime = 32;  // of logits

struct PlaceRow {
  int64_t row = 0;  // of the batch
  size_t item = 0, place = 0;
};

// Whether the sample holds the place: its ids behind the prompt begin with it.
bool holds_place(const Example& sample, int32_t prompt, const std::vector<int32_t>& place) {
  const auto first = static_cast<size_t>(prompt);
  return sample.input_ids.size() >= first + place.size() && std::equal(place.begin(), place.end(), sample.input_ids.begin() + first);
}

// The row behind which each place of each item's labels is, rows in their order. A row is one place's alone.
std::vector<PlaceRow> place_rows(const DecisionPass& pass, std::span<const LabelTree> trees) {
  std::vector<PlaceRow> rows;
  size_t sequence = 0;
  for (size_t i = 0; i < pass.items.size(); ++i) {
    const DecisionExample& decision = *pass.items[i].decision;
    const auto& places = trees[i].places();
    std::vector<bool> found(places.size());
    for (const Example& sample : decision.samples) {
      const int64_t start = pass.batch.sequences[sequence++].start;
      for (size_t p = 0; p < places.size(); ++p) {
        if (found[p] || !holds_place(sample, decision.prompt, places[p])) continue;
        found[p] = true;
        rows.push_back({start + decision.prompt - 1 + static_cast<int64_t>(places[p].size()), i, p});
      }
    }
  }
  std::ranges::sort(rows, {}, &PlaceRow::row);
  return rows;
}

// Rows of logits, with what they are made of.
struct LogitRows {
  std::span<const PlaceRow> places;
  Tensor x, logits, columns;  // [n, C], [n, V] F32, of the head's adapter
  std::span<float> row(int64_t i) const { return {logits.f32() + i * logits.row_stride, static_cast<size_t>(logits.cols())}; }
};

template <class Take>
void each_rows(const DecisionPass& pass, std::span<const PlaceRow> places, const Take& take) {
  const ModelConfig& c = pass.model.config;
  for (size_t first = 0; first < places.size(); first += kRowsAtATime) {
    const std::span<const PlaceRow> some = places.subspan(first, std::min<size_t>(kRowsAtATime, places.size() - first));
    const auto n = static_cast<int64_t>(some.size());
    std::vector<int64_t> rows;
    for (const PlaceRow& one : some) rows.push_back(one.row);
    const size_t mark = pass.scratch.mark();
    LogitRows made{
        some, pass.scratch.take(pass.model.activation_dtype(), {n, c.hidden_size}), pass.scratch.take(Dtype::F32, {n, c.vocab_size}), {}};
    gather_rows(pass.ctx, made.x, pass.hidden, rows);
    if (pass.set && pass.set->head()) made.columns = pass.scratch.take(made.x.dtype, {n, pass.set->head()->saved_width()});
    head_logits(pass.ctx, pass.model, made.logits, made.x, pass.set, pass.scratch, made.columns, pass.training);
    take(first, made);
    pass.scratch.release(mark);
  }
}

// Where bf16 is not multiplied a narrow gradient would only be widened again.
bool narrow_gradient(const Model& model) { return has_bf16_products() && model.activation_dtype() != Dtype::F32; }

double expected_number(const DecisionChoices& choices, std::span<const double> shares) {
  double sum = 0;
  for (size_t i = 0; i < choices.numbers.size(); ++i) sum += choices.numbers[i] * shares[i];
  return sum;
}

}  // namespace

size_t decision_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) {
  const ModelConfig& c = model.config;
  const int64_t chunk = std::min(rows, kRowsAtATime), copies = 1 + (c.logit_softcap != 0 ? 1 : 0) + (narrow_gradient(model) ? 1 : 0);
  return static_cast<size_t>(chunk * (copies * c.vocab_size + c.hidden_size) + rows * c.hidden_size) * sizeof(float) + 64 * 8 +
         head_scratch_bytes(model, chunk, set);
}

std::vector<LabelTree> told_trees(const DecisionPass& pass) {
  std::vector<LabelTree> trees;
  for (const Item& item : pass.items) trees.emplace_back(item.decision->choices->labels);
  each_rows(pass, place_rows(pass, trees), [&](size_t, const LogitRows& rows) {
    parallel_for(static_cast<int64_t>(rows.places.size()), [&](int64_t i) {
      const PlaceRow& at = rows.places[static_cast<size_t>(i)];
      trees[at.item].tell(at.place, rows.row(i));
    });
  });
  return trees;
}

void trees_backward(const DecisionPass& pass, std::span<const LabelTree> trees, std::span<const std::vector<double>> d,
                    const Tensor& d_hidden) {
  const std::vector<PlaceRow> places = place_rows(pass, trees);
  const size_t mark = pass.scratch.mark();
  const Tensor d_states = pass.scratch.take(Dtype::F32, {static_cast<int64_t>(places.size()), pass.model.config.hidden_size});
  each_rows(pass, places, [&](size_t first, const LogitRows& rows) {
    const auto n = static_cast<int64_t>(rows.places.size());
    Tensor capped;
    if (pass.model.config.logit_softcap != 0) {
      capped = pass.scratch.take(Dtype::F32, {n, rows.logits.cols()});
      convert_rows(pass.ctx, capped, rows.logits);
    }
    parallel_for(n, [&](int64_t i) {
      const PlaceRow& at = rows.places[static_cast<size_t>(i)];
      trees[at.item].backward(at.place, rows.row(i), d[at.item]);
    });
    logits_backward(pass.ctx, pass.model, rows.logits, capped);
    Tensor d_logits = rows.logits;
    if (narrow_gradient(pass.model)) {
      d_logits = pass.scratch.take(pass.model.activation_dtype(), {n, rows.logits.cols()});
      convert_rows(pass.ctx, d_logits, rows.logits);
    }
    head_backward(pass.ctx, pass.model, pass.set, d_states.row_range(static_cast<int64_t>(first), n), d_logits, rows.x, rows.columns,
                  pass.scratch);
  });
  std::vector<int64_t> rows;
  for (const PlaceRow& one : places) rows.push_back(one.row);
  scatter_rows(pass.ctx, d_hidden, d_states, rows);
  pass.scratch.release(mark);
}

DecisionObjective::DecisionObjective(const TrainConfig& config)
    : brier_(config.decision_brier), fitted_on_(holds_out(config) ? "held out of training" : "validation") {}

double DecisionObjective::loss(const ObjectivePass& pass) {
  const DecisionPass own{pass.ctx, pass.model, pass.set, pass.items, pass.batch, pass.hidden, pass.scratch, pass.training()};
  const std::vector<LabelTree> trees = told_trees(own);
  const double n = pass.training() ? items_ : static_cast<double>(pass.items.size());
  double total = 0;
  std::vector<std::vector<double>> d;
  for (size_t i = 0; i < trees.size(); ++i) {
    const DecisionExample& decision = *pass.items[i].decision;
    const auto label = static_cast<size_t>(decision.label);
    const std::vector<double> logprobs = trees[i].logprobs();
    DecisionLoss one = decision_loss(logprobs, label, brier_);
    total += one.loss / n;
    const auto likeliest = static_cast<size_t>(std::ranges::max_element(one.shares) - one.shares.begin());
    pass.figures.add("accuracy", likeliest == label ? 1 : 0);
    pass.figures.add("nll", one.nll);
    pass.figures.add("brier", one.brier);
    if (const DecisionChoices& choices = *decision.choices; !choices.numbers.empty())
      pass.figures.add("mae", std::abs(expected_number(choices, one.shares) - choices.numbers[label]));
    if (!pass.training()) seen_.push_back({logprobs, decision.label});
    for (double& share : one.d) share /= n;
    d.push_back(std::move(one.d));
  }
  if (pass.training()) trees_backward(own, trees, d, pass.d_hidden);
  return total;
}

void DecisionObjective::begin_evaluations() {
  seen_.clear();
  of_earlier_sets_ = 0;
}

void DecisionObjective::evaluated(OrderedJson& figures) {
  figures["calibration_error"] = calibration_error(std::span(seen_).subspan(of_earlier_sets_), 1);
  of_earlier_sets_ = seen_.size();
}

void DecisionObjective::read_files(const std::string& folder) {
  if (const std::optional<Calibration> found = read_calibration(folder)) calibration_ = *found;
}

}  // namespace loraine
