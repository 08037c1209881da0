// Choices of experts for the tests of what works on their rows: token by token different experts, the first always, the last never.
#pragma once
#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "loraine/kernels/experts/order.h"

namespace loraine {

struct ChosenRows {
  std::vector<int32_t> chosen;  // [T, K]
  std::vector<int32_t> memory;
  ExpertOrder order;

  ChosenRows(int64_t T, int64_t K, int64_t E, uint32_t seed) : memory(static_cast<size_t>(E + 1 + 2 * T * K)) {
    std::mt19937 random(seed);
    std::vector<int32_t> others(static_cast<size_t>(E - 2));
    std::iota(others.begin(), others.end(), 1);
    for (int64_t t = 0; t < T; ++t) {
      std::shuffle(others.begin(), others.end(), random);
      std::vector<int32_t> row(others.begin(), others.begin() + (K - 1));
      row.insert(row.begin() + static_cast<std::ptrdiff_t>(random() % static_cast<uint32_t>(K)), 0);
      chosen.insert(chosen.end(), row.begin(), row.end());
    }
    order = {Tensor(memory.data(), Dtype::I32, {E + 1}), Tensor(memory.data() + E + 1, Dtype::I32, {T * K}),
             Tensor(memory.data() + E + 1 + T * K, Dtype::I32, {T, K})};
    Context ctx;
    order_by_expert(ctx, order, Tensor(chosen.data(), Dtype::I32, {T, K}));
  }
  ChosenRows(const ChosenRows&) = delete;

  const int32_t* offsets() const { return static_cast<const int32_t*>(order.offsets.data); }
  const int32_t* tokens() const { return static_cast<const int32_t*>(order.tokens.data); }
  const int32_t* places() const { return static_cast<const int32_t*>(order.places.data); }
  int64_t expert_of(int64_t row) const {
    int64_t e = 0;
    while (offsets()[e + 1] <= row) ++e;
    return e;
  }
};

}  // namespace loraine
