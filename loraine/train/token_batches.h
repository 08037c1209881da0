// Micro-batches of as many examples as a number of tokens holds (batching_strategy), as LLaMA-Factory's v1 makes them. Called by the loop
// and by what plans it.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "loraine/data/examples/item.h"
#include "loraine/train/config/config.h"

namespace loraine {

// Whether batching_strategy takes examples by their tokens.
bool counts_tokens_of_batches(const TrainConfig& config);

// Tokens of a micro-batch: cutoff_len times per_device_train_batch_size.
int64_t token_budget(const TrainConfig& config);

// How many of the examples of these lengths, from the first, make a micro-batch: dynamic_padding_free counts their tokens, dynamic_batching
// (padded) the longest times their number. 0: more are needed to tell. No example is longer than the budget.
size_t token_batch_size(std::span<const int64_t> lengths, int64_t budget, bool padded);

// The examples of a run's updates, one after another: the order of an epoch runs on into that of the next, so that only whole updates are
// made.
class TokenBatches {
 public:
  TokenBatches(const TrainConfig& config, const Dataset& set);

  struct Update {
    std::vector<int64_t> items;    // places in the set
    std::vector<size_t> sizes;     // of its micro-batches
    int64_t epoch = 0, place = 0;  // where the order stands behind it
    bool ends_epoch = false;       // it has the last example of an epoch
  };
  Update next();

  // Updates until `epochs` passes over the data are made; the last may run on into the next pass.
  static int64_t count(const TrainConfig& config, const Dataset& set, double epochs);

 private:
  const TrainConfig& config_;
  const Dataset& set_;
  std::vector<int64_t> lengths_, order_;
  int64_t epoch_ = 0, place_ = 0;
};

}  // namespace loraine
