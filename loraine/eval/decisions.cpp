// See decisions.h.
#include "loraine/eval/decisions.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "loraine/core/python_json.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/data/examples/item.h"
#include "loraine/train/objectives/decision_objective.h"
#include "loraine/train/records/reliability_plot.h"

namespace loraine {
namespace {

double temperature_of(const Subject& subject, EvalResult& result) {
  const LoadedModel& loaded = subject.loaded;
  std::string folder = loaded.files.path;
  if (subject.adapter) {
    const auto found = loaded.folders.find(subject.adapter->name);
    if (found == loaded.folders.end()) {
      result.warnings.push_back("several adapters are on together, for which no temperature was fitted: probabilities are as they come");
      return 1;
    }
    folder = found->second;
  }
  const std::optional<Calibration> calibration = read_calibration(folder);
  if (!calibration)
    result.warnings.push_back(fmt::format("{}: there is no {}, so probabilities are as they come", folder, kCalibrationFile));
  return calibration ? calibration->temperature : 1;
}

int64_t rows_of_largest_decisions(const Dataset& set, size_t batch) {
  int64_t most = 0, rows = 0;
  for (size_t i = 0; i < set.decisions.size(); ++i) {
    if (i % batch == 0) rows = 0;
    for (const Example& sample : set.decisions[i].samples) rows += example_rows(sample);
    most = std::max(most, rows);
  }
  return most;
}

// The log-probabilities of all choices, and the seconds that it took.
std::vector<ScoredDecision> scored(const Subject& subject, const Dataset& set, double& seconds) {
  const auto batch_size = static_cast<size_t>(subject.loaded.config.per_device_eval_batch_size);
  Forward forward(subject, rows_of_largest_decisions(set, batch_size));
  Pass& pass = forward.pass();
  std::vector<ScoredDecision> all;
  const auto begin = std::chrono::steady_clock::now();
  for (size_t first = 0; first < set.decisions.size(); first += batch_size) {
    std::vector<Item> items;
    std::vector<const Example*> samples;
    for (size_t i = first; i < std::min(first + batch_size, set.decisions.size()); ++i) {
      items.push_back(item_of(set, i));
      for (const Example& sample : set.decisions[i].samples) samples.push_back(&sample);
    }
    Batch batch = make_batch(samples);
    if (subject.adapter) batch.adapter_rows = {{0, batch.rows(), 0}};
    decoder_forward(forward.ctx, subject.loaded.model, batch, pass);
    const std::vector<LabelTree> trees = told_trees({forward.ctx, subject.loaded.model, subject.adapter, items, batch,
                                                     pass.activations->hidden.row_range(0, batch.rows()), *pass.scratch});
    for (size_t i = 0; i < items.size(); ++i) all.push_back({trees[i].logprobs(), items[i].decision->label});
    for (const Item& item : items) item.let_go();
    subject.progress("decisions", static_cast<int64_t>(all.size()), static_cast<int64_t>(set.decisions.size()));
  }
  seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return all;
}

Figure one_value(const char* name, double value, double highest) {
  Figure figure{.name = name, .lowest = 0, .highest = highest};
  figure.add(value);
  return figure;
}

}  // namespace

void measure_decisions(const Subject& subject, const Dataset& set, EvalResult& result) {
  const double temperature = temperature_of(subject, result);
  double seconds = 0;
  const std::vector<ScoredDecision> decisions = scored(subject, set, seconds);
  Figure accuracy{.name = "eval_accuracy", .lowest = 0, .highest = 1, .proportion = true}, nll{.name = "eval_nll", .lowest = 0},
      brier{.name = "eval_brier", .lowest = 0, .highest = 2}, mae{.name = "eval_mae", .lowest = 0};
  std::string lines;
  for (size_t i = 0; i < decisions.size(); ++i) {
    const DecisionChoices& choices = *set.decisions[i].choices;
    const auto label = static_cast<size_t>(decisions[i].label);
    const std::vector<double> shares = shares_of(decisions[i].logprobs, temperature);
    const auto likeliest = static_cast<size_t>(std::ranges::max_element(shares) - shares.begin());
    double squares = 0, expected = 0;
    OrderedJson probabilities = OrderedJson::object();
    for (size_t k = 0; k < shares.size(); ++k) {
      const double apart = shares[k] - (k == label ? 1 : 0);
      squares += apart * apart;
      probabilities[choices.names[k]] = shares[k];
    }
    accuracy.add(likeliest == label ? 1 : 0);
    nll.add(mean_nll({&decisions[i], 1}, temperature));
    brier.add(squares);
    OrderedJson line = {{"answer", choices.names[likeliest]}, {"label", choices.names[label]}};
    if (!choices.numbers.empty()) {
      for (size_t k = 0; k < shares.size(); ++k) expected += shares[k] * choices.numbers[k];
      line["expected_value"] = expected;
      mae.add(std::abs(expected - choices.numbers[label]));
    }
    line["probabilities"] = std::move(probabilities);
    lines += python_json(line) + "\n";
  }
  const std::vector<ReliabilityBin> bins = reliability_bins(decisions, temperature), before = reliability_bins(decisions, 1);
  add_figure(result, std::move(accuracy));
  add_figure(result, std::move(nll));
  add_figure(result, std::move(brier));
  if (!mae.sums.empty()) add_figure(result, std::move(mae));
  add_figure(result, one_value("eval_calibration_error", calibration_error(bins), 1));
  result.metrics["eval_calibration_error_before"] = calibration_error(before);
  result.metrics["eval_temperature"] = temperature;
  result.metrics["eval_samples"] = decisions.size();
  add_figure(result, one_value("eval_answers_per_second", static_cast<double>(decisions.size()) / std::max(seconds, 1e-9),
                               std::numeric_limits<double>::infinity()));
  result.files.emplace_back("decisions.jsonl", lines);
  result.files.emplace_back("reliability.png",
                            reliability_png({fmt::format("{}: {} decisions", result.name, decisions.size()), bins, before, temperature}));
}

}  // namespace loraine
