// Batch by batch through the model, as an evaluation while training goes.
#include "loraine/eval/preferences.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/generate/engine.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/evaluation/reference_model.h"
#include "loraine/train/gpu/gpu_losses.h"
#include "loraine/train/objectives/reward_objective.h"
#include "loraine/train/records/python_number.h"

namespace loraine {
namespace {

constexpr int64_t kBesideLogitRows = 256;  // at a time

// Where the value head lies: with the last adapter, else with the model.
std::string head_folder(const LoadedModel& loaded) {
  const std::vector<FoundPlace> places = adapter_places(loaded.config, "a reward model has one");
  return places.empty() ? loaded.files.path : places.back().path;
}

// Rows of the largest batch, of the pass itself and of those beside it.
ItemRows largest_batch(const Objective& objective, const Dataset& set, size_t batch) {
  ItemRows most, rows;
  for (size_t i = 0; i < set.size(); ++i) {
    if (i % batch == 0) rows = {};
    const ItemRows one = item_rows(objective, item_of(set, i));
    rows = {rows.trained + one.trained, rows.beside + one.beside};
    most = {std::max(most.trained, rows.trained), std::max(most.beside, rows.beside)};
  }
  return most;
}

std::string scores_text(const std::vector<double>& scores) {
  std::string text;
  for (size_t i = 0; i < scores.size(); i += 2) {
    const OrderedJson line = {{"chosen", python_round(scores[i], 2)}, {"rejected", python_round(scores[i + 1], 2)}};
    text += (i == 0 ? "" : "\n") + python_json(line, -1, false);
  }
  return text;
}

}  // namespace

std::unique_ptr<Objective> open_objective(const LoadedModel& loaded) {
  const TrainConfig& c = loaded.config;
  std::unique_ptr<Objective> objective = make_objective(c);
  const std::string folder = c.stage == "rm" ? head_folder(loaded) : loaded.files.path;
  objective->begin({loaded.model, loaded.files.config, folder, static_cast<uint64_t>(c.seed)});
  objective->read_files(folder);
  return objective;
}

void measure_preferences(const Subject& subject, const Dataset& set, bool predictions, EvalResult& result) {
  const TrainConfig& c = subject.loaded.config;
  const auto batch_size = static_cast<size_t>(c.per_device_eval_batch_size);
  const std::unique_ptr<Objective> objective = open_objective(subject.loaded);
  const ItemRows most = largest_batch(*objective, set, batch_size);
  Forward forward(subject, most.trained);
  std::unique_ptr<SidePass> side;
  std::unique_ptr<ReferenceModel> reference;
  std::unique_ptr<GpuAnswers> beside;
  if (objective->needs_side() && subject.loaded.gpu) {
    GpuBase& base = *subject.loaded.gpu;
    const int64_t columns = subject.adapter ? rank_columns(*subject.adapter) : 1,
                  logit_rows = std::min<int64_t>(most.beside, kBesideLogitRows);
    check_gpu_room(GpuAnswers::bytes(base, most.beside, columns, logit_rows),
                   "a smaller per_device_eval_batch_size or cutoff_len needs less");
    beside = std::make_unique<GpuAnswers>(base, most.beside, columns, logit_rows);
    side = std::make_unique<SidePass>(subject.loaded.model, [&](const Batch& batch, bool adapted) {
      return losses_on_gpu(*beside, batch, adapted ? subject.adapter : nullptr);
    });
  } else if (objective->needs_side()) {
    check_room(subject, SidePass::bytes(subject.loaded.model, most.beside, subject.adapter));
    side = std::make_unique<SidePass>(subject.loaded.model, most.beside, subject.adapter);
  }
  if (c.ref_model && compares_with_reference(c)) {
    reference = std::make_unique<ReferenceModel>(c, subject.loaded.model);
    if (subject.loaded.gpu) {
      check_gpu_room(reference->gpu_bytes(most.beside), "a smaller per_device_eval_batch_size or cutoff_len needs less");
      reference->plan_pass_on_gpu(most.beside);
    } else {
      check_room(subject, reference->pass_bytes(most.beside));
      reference->plan_pass(most.beside);
    }
  }
  Pass& pass = forward.pass();
  LoggedFigures figures;
  Figure loss{.name = "eval_loss", .lowest = 0};
  std::vector<double> scores;
  for (size_t first = 0; first < set.size(); first += batch_size) {
    std::vector<Item> items;
    for (size_t i = first; i < std::min(first + batch_size, set.size()); ++i) items.push_back(item_of(set, i));
    const std::vector<const Example*> samples = samples_of(*objective, items);
    Batch batch = make_batch(samples);
    if (subject.adapter) batch.adapter_rows = {{0, batch.rows(), 0}};
    forward.run(batch);
    const Tensor hidden = pass.activations->hidden.row_range(0, batch.rows());
    const double one = objective->loss({forward.ctx, subject.loaded.model, subject.adapter, items, batch, hidden, Tensor(), *pass.scratch,
                                        side.get(), reference ? &reference->pass() : nullptr, figures, INT64_MAX, forward.gpu()});
    const auto weight = static_cast<double>(items.size());
    loss.add(one * weight, weight);
    if (const auto* reward = dynamic_cast<const RewardObjective*>(objective.get())) {
      const std::vector<double> own = reward_scores(forward.ctx, reward->head(), hidden, batch, samples, *pass.scratch, forward.gpu());
      scores.insert(scores.end(), own.begin(), own.end());
    }
    for (const Item& item : items) item.let_go();
    subject.progress("loss", static_cast<int64_t>(first + items.size()), static_cast<int64_t>(set.size()));
  }
  const double value = value_of(loss);
  add_figure(result, std::move(loss));
  OrderedJson found = figures.values();
  objective->complete(found);
  for (const auto& [name, figure] : found.items()) result.metrics["eval_" + name] = figure;
  result.metrics["eval_samples"] = set.size();
  if (scores.empty()) return;
  Figure accuracy{.name = "eval_accuracy", .lowest = 0, .highest = 1, .proportion = true};
  for (size_t i = 0; i < scores.size(); i += 2) accuracy.add(scores[i] > scores[i + 1] ? 1 : 0);
  if (predictions) {
    result.metrics["predict_accuracy"] = value_of(accuracy);
    result.metrics["predict_loss"] = value;
    result.files.emplace_back("generated_predictions.jsonl", scores_text(scores));
  }
  add_figure(result, std::move(accuracy));
}

}  // namespace loraine
