// In which order an epoch takes the examples, and how many batches they make. Called by the loop and by what plans it.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "loraine/data/examples/item.h"
#include "loraine/train/config/config.h"

namespace loraine {

// How an epoch's order is made. `group_by_length` as transformers: the shuffled examples are sorted within stretches of at most 50 batches,
// longest first, and the longest of all comes first in the epoch. (transformers draws that shuffle from torch's global generator, whose
// state depends on all that was drawn before; here it is the order of the same epoch in the plain case.)
enum class SampleOrder { random, sequential, group_by_length };
SampleOrder sample_order(const TrainConfig& config);

// The places of the items in epoch `epoch` (from 0); empty: 0, 1, 2, …
std::vector<int64_t> epoch_order(const TrainConfig& config, const Dataset& set, int64_t epoch);

// transformers' get_length_grouped_indices from an order that is drawn already; batch: examples of an update.
std::vector<int64_t> group_by_length(std::vector<int64_t> order, std::span<const int64_t> lengths, int64_t batch);

// Batches of n examples; a last one that is short counts unless it is dropped (dataloader_drop_last).
int64_t batch_count(int64_t n, int64_t batch, bool drop_last);

// The sizes of the micro-batches that n examples make, `batch` in each but a last one.
std::vector<size_t> batch_sizes(size_t n, size_t batch);

}  // namespace loraine
