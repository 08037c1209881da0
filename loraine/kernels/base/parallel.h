// The one parallel loop of the CPU kernels: items are independent, so results do not depend on who runs them. Carries exceptions out.
#pragma once
#include <cstdint>
#include <exception>

#include "loraine/core/signals.h"

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
  std::exception_ptr failure;
  auto guarded = [&](int64_t i) {
    have_signal_stack();  // libgomp ends threads and starts new ones as it likes
    try {
      body(i);
    } catch (...) {
#pragma omp critical(loraine_parallel_for)
      if (!failure) failure = std::current_exception();
    }
  };
  if constexpr (kTake == Take::shares) {
#pragma omp parallel for schedule(guided, chunk)
    for (int64_t i = 0; i < n; ++i) guarded(i);
  } else {
#pragma omp parallel for schedule(dynamic, chunk)
    for (int64_t i = 0; i < n; ++i) guarded(i);
  }
  if (failure) std::rethrow_exception(failure);
}

// Rows per chunk so that a chunk holds about 16k elements.
inline int64_t row_chunk(int64_t cols) { return cols >= 16384 ? 1 : 16384 / (cols > 0 ? cols : 1) + 1; }

}  // namespace loraine
