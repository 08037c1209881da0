// See stream_order.h.
#include "loraine/data/order/stream_order.h"

#include <algorithm>
#include <numeric>

namespace loraine {
namespace {

constexpr size_t kDrawsAtATime = 1000;

}  // namespace

Pcg64 epoch_generator(uint64_t seed, int64_t epoch) {
  Pcg64 generator(seed);
  if (epoch == 0) return generator;
  const auto drawn = static_cast<int64_t>(generator.next64() >> 1);  // integers(0, 2**63)
  int64_t effective = drawn - epoch;
  if (effective < 0) effective = static_cast<int64_t>((uint64_t{1} << 63) + static_cast<uint64_t>(effective));
  return Pcg64(static_cast<uint64_t>(effective));
}

SetOrder::SetOrder(size_t sets, Mixing mixing, std::vector<double> probabilities, const Pcg64& generator)
    : mixing_(mixing), cumulative_(std::move(probabilities)), generator_(generator), order_(sets), exhausted_(sets) {
  std::iota(order_.begin(), order_.end(), size_t{0});
  if (mixing_ == Mixing::concat) generator_.shuffle(order_);
  std::partial_sum(cumulative_.begin(), cumulative_.end(), cumulative_.begin());
  for (double& c : cumulative_) c /= cumulative_.back();
}

std::optional<size_t> SetOrder::draw() {
  if (cumulative_.empty()) return turn_++ % order_.size();
  if (at_ == drawn_.size()) {
    drawn_.clear();
    at_ = 0;
    for (size_t i = 0; i < kDrawsAtATime; ++i) {
      const auto place = std::upper_bound(cumulative_.begin(), cumulative_.end(), generator_.next_double());
      drawn_.push_back(std::min(static_cast<size_t>(place - cumulative_.begin()), order_.size() - 1));
    }
  }
  return drawn_[at_++];
}

std::optional<size_t> SetOrder::next() {
  if (mixing_ == Mixing::concat) {
    while (turn_ < order_.size() && exhausted_[order_[turn_]]) ++turn_;
    return turn_ < order_.size() ? std::optional<size_t>(order_[turn_]) : std::nullopt;
  }
  for (;;) {
    const auto set = draw();
    const bool any = std::find(exhausted_.begin(), exhausted_.end(), true) != exhausted_.end();
    const bool all = std::find(exhausted_.begin(), exhausted_.end(), false) == exhausted_.end();
    if (mixing_ == Mixing::interleave_under ? any : all) return std::nullopt;
    if (mixing_ != Mixing::interleave_once || !exhausted_[*set]) return set;
  }
}

void SetOrder::ended(size_t set) { exhausted_[set] = true; }

std::vector<std::pair<int64_t, int64_t>> shard_order(int64_t n, int64_t shards, Pcg64 generator) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (int64_t shard = 0, first = 0; shard < shards; ++shard) {
    const int64_t last = first + n / shards + (shard < n % shards ? 1 : 0);
    all.emplace_back(first, last);
    first = last;
  }
  generator.shuffle(all);
  return all;
}

size_t BufferDraws::next() {
  if (at_ == drawn_.size()) {
    drawn_.clear();
    at_ = 0;
    for (size_t i = 0; i < kDrawsAtATime; ++i) drawn_.push_back(generator_.below(size_));
  }
  return drawn_[at_++];
}

}  // namespace loraine
