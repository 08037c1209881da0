#include "loraine/train/token_batches.h"

#include <algorithm>
#include <cmath>

#include "loraine/train/sampling.h"

namespace loraine {

bool counts_tokens_of_batches(const TrainConfig& config) { return config.batching_strategy != "normal"; }

int64_t token_budget(const TrainConfig& config) { return config.cutoff_len * config.per_device_train_batch_size; }

size_t token_batch_size(std::span<const int64_t> lengths, int64_t budget, bool padded) {
  int64_t longest = 0, sum = 0;
  for (size_t n = 0; n < lengths.size(); ++n) {
    longest = std::max(longest, lengths[n]);
    sum += lengths[n];
    const int64_t tokens = padded ? longest * static_cast<int64_t>(n + 1) : sum;
    if (tokens > budget && n > 0) return n;
    if (padded && tokens >= budget) return n + 1;
  }
  return 0;
}

TokenBatches::TokenBatches(const TrainConfig& config, const Dataset& set)
    : config_(config), set_(set), order_(epoch_order(config, set, 0)) {
  lengths_.reserve(set.size());
  for (size_t i = 0; i < set.size(); ++i) lengths_.push_back(example_rows(*item_of(set, i).example));
}

TokenBatches::Update TokenBatches::next() {
  const bool padded = config_.batching_strategy == "dynamic_batching";
  const int64_t budget = token_budget(config_), n = static_cast<int64_t>(set_.size());
  Update update;
  std::vector<int64_t> lengths;  // of the micro-batch that is being filled
  int64_t epoch = epoch_, place = place_;
  while (static_cast<int64_t>(update.sizes.size()) < config_.gradient_accumulation_steps) {
    if (place == n) {
      order_ = epoch_order(config_, set_, ++epoch);
      place = 0;
    }
    const int64_t item = order_.empty() ? place : order_[static_cast<size_t>(place)];
    lengths.push_back(lengths_[static_cast<size_t>(item)]);
    const size_t size = token_batch_size(lengths, budget, padded);
    const bool taken = size == 0 || size == lengths.size();  // else it is the first of the next micro-batch, and is looked at again
    if (taken) {
      update.items.push_back(item);
      if (++place == n) update.ends_epoch = true;
    }
    if (size == 0) continue;
    update.sizes.push_back(size);
    lengths.clear();
  }
  epoch_ = update.epoch = epoch;
  place_ = update.place = place;
  return update;
}

int64_t TokenBatches::count(const TrainConfig& config, const Dataset& set, double epochs) {
  TokenBatches batches(config, set);
  const double n = static_cast<double>(set.size());
  for (int64_t updates = 1;; ++updates) {
    const Update update = batches.next();
    if (static_cast<double>(update.epoch) * n + static_cast<double>(update.place) >= epochs * n) return updates;
  }
}

}  // namespace loraine
