// Cache lines of the rows that come next, asked for while those in hand are worked on: a row of a weight is too short for the processor to
// see where it leads.
#pragma once
#include <hwy/base.h>
#include <hwy/cache_control.h>

#include <cstdint>

namespace loraine {

// kRows rows in hand, of `bytes` bytes each and `stride` bytes apart, with `left` rows from the first one to the last. What lies in one
// piece is asked for from its beginning to its end, which memory likes better than turns between kRows places. (bf16 rows of 576 on one
// AVX2 core: 8.2 to 10 GB/s.) Past the last row by three lines at most: an unmapped
// page is looked up at length.
template <int kRows>
class LinesAhead {
 public:
  LinesAhead(const void* first, int64_t stride, int64_t bytes, int64_t left) : at_(static_cast<const char*>(first)) {
    if (left < 2 * kRows) return;
    at_ += kRows * stride;
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
