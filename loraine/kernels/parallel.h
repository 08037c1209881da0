// The parallel loops of the CPU kernels: items are independent, so results do not depend on who runs them. Carry exceptions out.
#pragma once
#include <cstdint>
#include <exception>

namespace loraine {

// The first exception of the items of a loop, kept until all threads have left it.
class Failure {
 public:
  template <class Body>
  void guard(Body& body, int64_t i) {
    try {
      body(i);
    } catch (...) {
#pragma omp critical(loraine_failure)
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
};

// body(i) for i in [0, n). `chunk` items are taken at a time. Runs on the caller alone when there is one item.
template <class Body>
void parallel_for(int64_t n, Body&& body, int64_t chunk = 1) {
  if (n <= chunk) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  Failure failure;
#pragma omp parallel for schedule(dynamic, chunk)
  for (int64_t i = 0; i < n; ++i) failure.guard(body, i);
  failure.rethrow();
}

// The same for items that lie one after the other in memory: each thread takes a share of what is left, at least `chunk`, so that pieces
// are long at first and threads still end together. (bf16 weights on two AVX2 cores: 0.80 to 0.88 of a plain read.)
template <class Body>
void parallel_for_in_order(int64_t n, Body&& body, int64_t chunk = 1) {
  if (n <= chunk) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  Failure failure;
#pragma omp parallel for schedule(guided, chunk)
  for (int64_t i = 0; i < n; ++i) failure.guard(body, i);
  failure.rethrow();
}

// Rows per chunk so that a chunk holds about 16k elements.
inline int64_t row_chunk(int64_t cols) { return cols >= 16384 ? 1 : 16384 / (cols > 0 ? cols : 1) + 1; }

}  // namespace loraine
