// The loop of rules that go element by element: blocks in parallel, moments of 8 bits unpacked before and packed after.
#pragma once
#include <algorithm>
#include <array>

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {

// Value, gradient and states are F32 (or U8 with scales), contiguous and of one size.
template <size_t N>
void check_update(const char* op, const Update& u, const std::array<Moment, N>& moments) {
  const int64_t n = u.value.numel();
  check_op(u.value.dtype == Dtype::F32 && u.gradient.dtype == Dtype::F32 && u.value.contiguous() && u.gradient.contiguous() &&
               u.gradient.numel() == n,
           op, "value and gradient must be contiguous F32 of one size");
  check_op(u.step >= 1, op, "step counts from 1");
  for (const Moment& m : moments) {
    check_op(m.values.numel() == n && m.values.contiguous(), op, "a state must have the size of the parameter");
    check_op(m.values.dtype == Dtype::F32 ||
                 (m.values.dtype == Dtype::U8 && m.scales.dtype == Dtype::F32 && m.scales.numel() == moment_blocks(n)),
             op, "a state must be F32, or U8 with a scale per block");
  }
}

// body(first, count, states): count elements from `first` on; states[k][0 … count) are those of moment k as f32, which it changes.
template <size_t N, class Body>
void over_blocks(const std::array<Moment, N>& moments, int64_t n, Body&& body) {
  constexpr int64_t kRun = 16384;  // elements of one item of the loop, a multiple of kMomentBlock
  const bool packed = std::ranges::any_of(moments, [](const Moment& m) { return m.values.dtype != Dtype::F32; });
  parallel_for((n + kRun - 1) / kRun, [&](int64_t item) {
    std::array<float*, std::max<size_t>(N, 1)> states{};
    const int64_t begin = item * kRun, end = std::min(n, begin + kRun);
    if (!packed) {
      for (size_t k = 0; k < N; ++k) states[k] = moments[k].values.f32() + begin;
      return body(begin, end - begin, states.data());
    }
    float unpacked[std::max<size_t>(N, 1)][kMomentBlock];
    for (int64_t first = begin; first < end; first += kMomentBlock) {
      const int64_t count = std::min(kMomentBlock, end - first);
      for (size_t k = 0; k < N; ++k) read_moment(states[k] = unpacked[k], moments[k], first, count);
      body(first, count, states.data());
      for (size_t k = 0; k < N; ++k) write_moment(moments[k], unpacked[k], first, count);
    }
  });
}

}  // namespace loraine
