// Several samples laid into one block of a fixed length (packing, neat_packing). Called by dataset.cpp.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "loraine/data/examples/example.h"

namespace loraine {

// Which samples share a block of at most `capacity` ids, each in the order it is laid in: the longest that still fits comes next, of equal
// ones the last. LLaMA-Factory's greedy knapsack. No length may be above the capacity.
std::vector<std::vector<int64_t>> fill_blocks(std::span<const int64_t> lengths, int64_t capacity);

// The samples end to end, then `pad` up to `length` ids, which is not trained.
Example pack_block(std::span<const Example* const> samples, int64_t length, int32_t pad, bool sees_all);

// Where the batches begin that LLaMA-Factory preprocesses n rows in, and n: blocks and KL pairs never reach beyond a batch. With several
// workers each has its share of the rows, and batches of its own.
std::vector<int64_t> batch_starts(int64_t n, int64_t batch_size, int64_t workers);

}  // namespace loraine
