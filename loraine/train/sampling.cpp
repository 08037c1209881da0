// Orders of an epoch.
#include "loraine/train/sampling.h"

#include <algorithm>
#include <utility>

#include "loraine/data/order/orders.h"

namespace loraine {

SampleOrder sample_order(const TrainConfig& c) {
  if (c.disable_shuffling || c.train_sampling_strategy == "sequential") return SampleOrder::sequential;
  return c.group_by_length || c.train_sampling_strategy == "group_by_length" ? SampleOrder::group_by_length : SampleOrder::random;
}

std::vector<int64_t> epoch_order(const TrainConfig& c, const Dataset& set, int64_t epoch) {
  const SampleOrder kind = sample_order(c);
  if (kind == SampleOrder::sequential) return {};
  std::vector<int64_t> order =
      torch_randperm(static_cast<int64_t>(set.size()), static_cast<uint64_t>(c.data_seed.value_or(c.seed) + epoch));
  if (kind == SampleOrder::random) return order;
  std::vector<int64_t> lengths;
  lengths.reserve(set.size());
  for (size_t i = 0; i < set.size(); ++i) {
    const Item item = item_of(set, i);
    lengths.push_back(static_cast<int64_t>(item.example->input_ids.size() + (set.pairs.empty() ? 0 : item.other->input_ids.size())));
  }
  return group_by_length(std::move(order), lengths, c.per_device_train_batch_size * c.gradient_accumulation_steps);
}

std::vector<int64_t> group_by_length(std::vector<int64_t> order, std::span<const int64_t> lengths, int64_t batch) {
  const auto n = static_cast<int64_t>(order.size());
  if (n == 0) return order;
  const auto length = [&](int64_t i) { return lengths[static_cast<size_t>(i)]; };
  const int64_t stretch = batch * std::max<int64_t>(1, std::min<int64_t>(n / (batch * 4), 50));
  int64_t longest = 0;  // where the stretch with the longest example begins
  for (int64_t first = 0; first < n; first += stretch) {
    const auto begin = order.begin() + first, end = order.begin() + std::min(first + stretch, n);
    std::stable_sort(begin, end, [&](int64_t a, int64_t b) { return length(a) > length(b); });
    if (length(*begin) > length(order[static_cast<size_t>(longest)])) longest = first;
  }
  std::swap(order[0], order[static_cast<size_t>(longest)]);
  return order;
}

int64_t batch_count(int64_t n, int64_t batch, bool drop_last) { return drop_last ? n / batch : (n + batch - 1) / batch; }

std::vector<size_t> batch_sizes(size_t n, size_t batch) {
  std::vector<size_t> sizes(n / batch, batch);
  if (n % batch) sizes.push_back(n % batch);
  return sizes;
}

}  // namespace loraine
