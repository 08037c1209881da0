// Orders of numbers equal to torch's. Called by data/order and train for orders of samples, by adapters for places in a matrix.
#pragma once
#include <cstdint>
#include <vector>

namespace loraine {

// torch.randperm(n) of a CPU generator seeded with `seed`. Throws unsupported from where torch changes its method, 2³² / 20, on.
std::vector<int64_t> torch_randperm(int64_t n, uint64_t seed);
// The first `count` of them, in memory for so many.
std::vector<int64_t> torch_randperm_first(int64_t n, int64_t count, uint64_t seed);

}  // namespace loraine
