// Greedy knapsacks over lengths, and blocks. Called through packing.h.
#include "loraine/data/examples/packing.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"

namespace loraine {

std::vector<std::vector<int64_t>> fill_blocks(std::span<const int64_t> lengths, int64_t capacity) {
  std::map<int64_t, std::vector<int64_t>> of_length;  // samples that wait, by their length
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] > capacity)
      throw Error(ErrorKind::internal, fmt::format("packing: a sample of {} ids for blocks of {}", lengths[i], capacity));
    of_length[lengths[i]].push_back(static_cast<int64_t>(i));
  }
  std::vector<std::vector<int64_t>> blocks;
  while (!of_length.empty()) {
    blocks.emplace_back();
    for (int64_t left = capacity;;) {
      auto next = of_length.upper_bound(left);
      if (next == of_length.begin()) break;  // nothing fits any more
      --next;
      left -= next->first;
      blocks.back().push_back(next->second.back());
      next->second.pop_back();
      if (next->second.empty()) of_length.erase(next);
    }
  }
  return blocks;
}

Example pack_block(std::span<const Example* const> samples, int64_t length, int32_t pad, bool sees_all) {
  std::vector<int32_t> ids, labels, starts;
  ids.reserve(static_cast<size_t>(length));
  labels.reserve(static_cast<size_t>(length));
  for (const Example* sample : samples) {
    starts.push_back(static_cast<int32_t>(ids.size()));
    ids.insert(ids.end(), sample->input_ids.begin(), sample->input_ids.end());
    labels.insert(labels.end(), sample->labels.begin(), sample->labels.end());
  }
  if (static_cast<int64_t>(ids.size()) > length)
    throw Error(ErrorKind::internal, fmt::format("packing: {} ids for a block of {}", ids.size(), length));
  Example block;
  block.sees_all = sees_all;
  block.padding = static_cast<int32_t>(length - static_cast<int64_t>(ids.size()));
  ids.resize(static_cast<size_t>(length), pad);
  labels.resize(static_cast<size_t>(length), kIgnoreLabel);
  block.input_ids = std::move(ids);
  block.labels = std::move(labels);
  block.starts = std::move(starts);
  return block;
}

std::vector<int64_t> batch_starts(int64_t n, int64_t batch_size, int64_t workers) {
  std::vector<int64_t> starts;
  const int64_t shares = std::clamp<int64_t>(workers, 1, std::max<int64_t>(n, 1));
  for (int64_t share = 0, first = 0; share < shares; ++share) {
    const int64_t end = first + n / shares + (share < n % shares ? 1 : 0);
    for (int64_t at = first; at < end; at += batch_size) starts.push_back(at);
    first = end;
  }
  starts.push_back(n);
  return starts;
}

}  // namespace loraine
