// What the tests of recurrent ops share: batches of sequences, and a run with another number of threads.
#pragma once
#include <omp.h>

#include <initializer_list>
#include <vector>

#include "loraine/core/batch.h"

namespace loraine {

inline std::vector<Sequence> whole_sequences(std::initializer_list<int64_t> lengths) {
  std::vector<Sequence> s;
  int64_t start = 0;
  for (int64_t n : lengths) {
    s.push_back({start, n, start, n});
    start += n;
  }
  return s;
}

inline int64_t rows_of(const std::vector<Sequence>& s) { return s.back().start + s.back().length; }

template <class Run>
auto with_threads(int threads, Run&& run) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  auto result = run();
  omp_set_num_threads(before);
  return result;
}

}  // namespace loraine
