// Figures, and rows of items.
#include "loraine/train/objectives/objective.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/examples/batcher.h"

namespace loraine {

void LoggedFigures::add(const std::string& name, double sum, double count) {
  auto found = std::ranges::find(figures_, name, &Figure::name);
  if (found == figures_.end()) found = figures_.insert(figures_.end(), {name, 0, 0});
  found->sum += sum;
  found->count += count;
}

OrderedJson LoggedFigures::values() const {
  OrderedJson values = OrderedJson::object();
  for (const Figure& one : figures_) values[one.name] = one.count > 0 ? one.sum / one.count : one.sum;
  return values;
}

std::string LoggedFigures::text() const {
  OrderedJson all = OrderedJson::array();
  for (const Figure& one : figures_) all.push_back({one.name, one.sum, one.count});
  return all.dump();
}

void LoggedFigures::read(const std::string& text) {
  figures_.clear();
  if (text.empty()) return;
  try {
    for (const auto& one : nlohmann::json::parse(text))
      figures_.push_back({one.at(0).get<std::string>(), one.at(1).get<double>(), one.at(2).get<double>()});
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::bad_data, std::string("training_state.json: figures: ") + e.what(), "resume from another checkpoint");
  }
}

ItemRows rows_of_items(const Objective& objective, std::span<const Item> items, int64_t cutoff) {
  std::vector<const Example*> trained = samples_of(objective, items), beside = trained;
  for (const Item& item : items) {
    objective.behind_samples(item, trained);
    objective.beside_samples(item, beside);
  }
  return {batch_rows(trained, objective.share_up_to(), cutoff), batch_rows(beside, objective.share_up_to(), cutoff)};
}

std::vector<const Example*> samples_of(const Objective& objective, std::span<const Item> items) {
  std::vector<const Example*> samples;
  for (const Item& item : items) objective.samples(item, samples);
  return samples;
}

ItemsBatch batch_of(const Objective& objective, std::span<const Item> items) {
  std::vector<const Example*> samples = samples_of(objective, items);
  const int64_t share_up_to = objective.share_up_to();
  ItemsBatch made;
  const size_t trained = samples.size();
  for (const Item& item : items) objective.behind_samples(item, samples);
  made.batch = make_batch(samples, share_up_to);
  made.batch.adapter_rows = {{0, made.batch.rows(), 0}};
  made.trained_rows = samples.size() == trained ? made.batch.rows() : batch_rows(std::span(samples).first(trained), share_up_to);
  made.sample_rows = batch_rows(samples, 0);
  return made;
}

}  // namespace loraine
