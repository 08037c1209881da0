// The order in which rows of several sets are streamed, as `datasets` shuffles an IterableDataset: a buffer from which the next row is
// drawn, over sets and their shards in an order of the epoch. Used by stream.cpp.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "loraine/data/order/orders.h"
#include "loraine/data/order/pcg64.h"

namespace loraine {

// numpy's generator of an epoch: that of the seed in the first, one that follows from both later.
Pcg64 epoch_generator(uint64_t seed, int64_t epoch);

// Which set's row comes next. Every set is asked for the row after the one that is taken, so that its end is known in time.
class SetOrder {
 public:
  SetOrder(size_t sets, Mixing mixing, std::vector<double> probabilities, const Pcg64& generator);
  std::optional<size_t> next();  // none at the end of the epoch
  void ended(size_t set);        // the row taken from it was its last; where it comes again it begins anew

 private:
  std::optional<size_t> draw();
  Mixing mixing_;
  std::vector<double> cumulative_;  // empty: in turn
  Pcg64 generator_;
  std::vector<size_t> order_;  // concat: of the epoch
  std::vector<bool> exhausted_;
  std::vector<size_t> drawn_;  // from one block of draws
  size_t at_ = 0, turn_ = 0;
};

// Where the shards of a set lie among its n rows, in the order of the epoch: [first, last) each.
std::vector<std::pair<int64_t, int64_t>> shard_order(int64_t n, int64_t shards, Pcg64 generator);

// Draws from a buffer: places in it, as Generator.integers gives them a thousand at a time.
class BufferDraws {
 public:
  BufferDraws(int64_t buffer_size, const Pcg64& generator) : size_(static_cast<uint32_t>(buffer_size)), generator_(generator) {}
  size_t next();
  Pcg64& generator() { return generator_; }  // for the shuffle of what is left

 private:
  uint32_t size_;
  Pcg64 generator_;
  std::vector<uint32_t> drawn_;
  size_t at_ = 0;
};

}  // namespace loraine
