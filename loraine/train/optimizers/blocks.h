// Parameters that take turns (BAdam by layers, Luo et al. 2024): which block is trained at which update.
#pragma once
#include <cstdint>
#include <vector>

namespace loraine {

struct BlockOrder {
  enum class Mode { ascending, descending, random, fixed };
  std::vector<int64_t> block_of;  // one per parameter; -1: never trained
  int64_t count = 0;
  Mode mode = Mode::ascending;
  int64_t start = 0;
  bool starts_given = false;  // `random` begins with it
  int64_t interval = 50;      // updates of a block; below 1: the first block for ever
  uint64_t seed = 42;         // of the orders of `random`

  // As badam counts: the first turn is one update shorter than the others. Updates count from 1.
  int64_t turn(int64_t update) const;
  int64_t first_update(int64_t turn) const;
  int64_t block(int64_t turn) const;
};

}  // namespace loraine
