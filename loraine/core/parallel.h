// The one parallel loop: items are independent, so results do not depend on who runs them. Carries exceptions out.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

#include "loraine/core/context.h"
#include "loraine/core/signals.h"
#include "loraine/core/thread_team.h"

namespace loraine {

// How threads take items: `chunks` of a fixed number; or `shares` of what is left, for items that lie one after the other in memory, so
// that pieces are long at first and threads still end together. (bf16 weights on two AVX2 cores: 0.80 to 0.88 of a plain read.)
enum class Take { chunks, shares };

// body(i) for i in [0, n). At least `chunk` items are taken at a time. Runs on the caller alone when there is one chunk.
template <Take kTake = Take::chunks, class Body>
void parallel_for(int64_t n, Body&& body, int64_t chunk = 1) {
  if (n <= chunk) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  ++loop_counts.loops, loop_counts.items += n;
  const int threads = static_cast<int>(std::min<int64_t>(thread_count(), (n + chunk - 1) / chunk));
  alignas(64) std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;  // the first one
  const auto take = [&](int64_t& first) {
    if constexpr (kTake == Take::chunks) {
      first = next.fetch_add(chunk, std::memory_order_relaxed);
      return std::min(chunk, n - first);
    } else {
      first = next.load(std::memory_order_relaxed);
      int64_t count = 0;
      do {
        count = std::min(std::max(chunk, (n - first + threads - 1) / threads), n - first);
      } while (count > 0 && !next.compare_exchange_weak(first, first + count, std::memory_order_relaxed));
      return count;
    }
  };
  const auto work = [&] {
    have_signal_stack();
    int64_t first = 0;
    while (const int64_t count = std::max<int64_t>(take(first), 0))
      for (int64_t i = first; i < first + count; ++i) try {
          body(i);
        } catch (...) {
          if (!failed.exchange(true)) failure = std::current_exception();
        }
  };
  run_in_team(threads, work);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace loraine
