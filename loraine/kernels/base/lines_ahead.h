// Cache lines of the rows that come next, asked for while those in hand are worked on: a row of a weight is too short for the processor to
// see where it leads.
#pragma once
#include <hwy/base.h>
#include <hwy/cache_control.h>

#include <cstdint>

namespace loraine {

// kRows rows in hand, of `bytes` bytes each and `stride` bytes apart; the kRows after them are asked for whether or not they are of this
// block, since the next block mostly begins there. What lies in one piece is asked for from its beginning to its end, which memory likes
// better than turns between kRows places. (bf16 rows of 576 on one AVX2 core: 8.2 to 10 GB/s. Beyond the block, two cores: 0.88 to 0.94 of
// a plain read.)
template <int kRows>
class LinesAhead {
 public:
  LinesAhead(const void* first, int64_t stride, int64_t bytes) : at_(static_cast<const char*>(first) + kRows * stride) {
    if (stride == bytes) apart_ = 64, pace_ = kRows;
    else apart_ = stride;
  }
  // The lines that belong to byte `offset` of the rows in hand: to be called once for every 64 of them.
  HWY_INLINE void ask(int64_t offset) const {
    for (int i = 0; i < kRows; ++i) hwy::Prefetch(at_ + pace_ * offset + i * apart_);
  }

 private:
  const char* at_;
  int64_t apart_ = 0, pace_ = 1;
};

}  // namespace loraine
