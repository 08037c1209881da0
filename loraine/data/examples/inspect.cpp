// See inspect.h.
#include "loraine/data/examples/inspect.h"

#include <algorithm>

#include "loraine/core/batch.h"

namespace loraine {
namespace {

constexpr int64_t kBins = 12;

void take_example(const Example& example, const std::function<void(std::span<const int32_t>, std::span<const int32_t>)>& take) {
  const std::span<const int32_t> ids(example.input_ids), labels(example.labels);
  const size_t end = ids.size() - static_cast<size_t>(example.padding);
  for (size_t sample = 0; sample < std::max<size_t>(example.starts.size(), 1); ++sample) {
    const size_t first = example.starts.empty() ? 0 : static_cast<size_t>(example.starts[sample]);
    const size_t last = sample + 1 < example.starts.size() ? static_cast<size_t>(example.starts[sample + 1]) : end;
    take(ids.subspan(first, last - first), labels.subspan(first, last - first));
  }
  example.let_go();
}

uint64_t hash_of(std::span<const int32_t> ids, std::span<const int32_t> labels) {
  uint64_t hash = ids.size();
  for (size_t i = 0; i < ids.size(); ++i) {
    hash = (hash ^ (static_cast<uint64_t>(static_cast<uint32_t>(ids[i])) << 32 | static_cast<uint32_t>(labels[i]))) * 0xbf58476d1ce4e5b9ull;
    hash ^= hash >> 31;
  }
  return hash;
}

// Whether the last trained stretch holds a token that ends an answer; a template may have written a new line behind it.
bool ends_answer(std::span<const int32_t> labels, const std::vector<int32_t>& stop) {
  constexpr size_t kBehind = 4;
  size_t last = labels.size();
  while (last > 0 && labels[last - 1] == kIgnoreLabel) --last;
  for (size_t i = last; i-- > 0 && last - i <= kBehind && labels[i] != kIgnoreLabel;)
    if (std::find(stop.begin(), stop.end(), labels[i]) != stop.end()) return true;
  return false;
}

}  // namespace

void for_each_sample(const Dataset& set, const std::function<void(std::span<const int32_t>, std::span<const int32_t>)>& take) {
  for (const Example& example : set.examples) take_example(example, take);
  for (const PairExample& pair : set.pairs) {
    take_example(pair.chosen, take);
    take_example(pair.rejected, take);
  }
  for (const FeedbackExample& feedback : set.feedback) take_example(feedback.example, take);
  for (const DecisionExample& decision : set.decisions) take_example(decision.samples.front(), take);
  for (const AskedExample& asked : set.asked) take_example(asked.prompt, take);
}

Inspection inspect(const Dataset& set, const SpecialTokens& special) {
  Inspection found;
  std::vector<int64_t> lengths;
  std::vector<uint64_t> hashes;
  for_each_sample(set, [&](std::span<const int32_t> ids, std::span<const int32_t> labels) {
    lengths.push_back(static_cast<int64_t>(ids.size()));
    hashes.push_back(hash_of(ids, labels));
    found.doubled_bos += special.bos && ids.size() > 1 && ids[0] == *special.bos && ids[1] == *special.bos;
    const bool trained = std::any_of(labels.begin(), labels.end(), [](int32_t label) { return label != kIgnoreLabel; });
    const bool ended = trained && ends_answer(labels, special.stop);
    found.ended += ended;
    found.unended += trained && !ended;
  });
  found.samples = static_cast<int64_t>(lengths.size());
  if (lengths.empty()) return found;
  std::sort(hashes.begin(), hashes.end());
  found.repeated = hashes.end() - std::unique(hashes.begin(), hashes.end());
  std::sort(lengths.begin(), lengths.end());
  found.shortest = lengths.front();
  found.median = lengths[lengths.size() / 2];
  found.longest = lengths.back();
  const int64_t width = std::max<int64_t>(1, (found.longest - found.shortest + kBins) / kBins);
  for (int64_t from = found.shortest; from <= found.longest; from += width) {
    const auto in =
        std::upper_bound(lengths.begin(), lengths.end(), from + width - 1) - std::lower_bound(lengths.begin(), lengths.end(), from);
    found.lengths.push_back({from, std::min(from + width - 1, found.longest), in});
  }
  return found;
}

}  // namespace loraine
