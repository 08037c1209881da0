// What routers and the balance of their choices share: the largest of some numbers, and a softmax.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "loraine/kernels/activations/exp_rows.h"

namespace loraine {

// The best `most` of what is offered, in descending order of value; of equals those that were offered first. A NaN is kept only where there
// is nothing else.
class Best {
 public:
  Best(int32_t* index, float* value, int64_t most) : index_(index), value_(value), most_(most) {}
  void offer(int32_t index, float value) {
    if (count_ == most_ && !better(value, value_[count_ - 1])) return;
    int64_t at = count_ < most_ ? count_++ : most_ - 1;
    for (; at > 0 && better(value, value_[at - 1]); --at) index_[at] = index_[at - 1], value_[at] = value_[at - 1];
    index_[at] = index, value_[at] = value;
  }

 private:
  static bool better(float a, float b) { return a > b || (std::isnan(b) && !std::isnan(a)); }

  int32_t* index_;
  float* value_;
  int64_t most_, count_ = 0;
};

// p = softmax of n logits
inline void softmax_row(float* p, const float* logits, int64_t n) {
  std::copy_n(logits, n, p);
  scale_row(p, n, 1 / exp_row(p, n, 1, max_row(logits, n)));
}

}  // namespace loraine
