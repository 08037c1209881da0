// Where the time of a step goes, op by op. Filled by kernels/dispatch.h when the Context has one; shown by `loraine bench`.
#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace loraine {

// What one call of an op has to do: floating point operations, and the shape of a product ([m, n] over k; 0 for other ops).
struct OpWork {
  double flops = 0;
  int64_t m = 0, n = 0, k = 0;
};

struct OpProfile {
  struct Entry {
    int64_t calls = 0;
    double seconds = 0, flops = 0;
  };
  std::map<std::string, Entry> entries;  // "rms_norm", "matmul_nt 512 × 960 × 576"

  void add(const char* op, const OpWork& work, double seconds);
};

}  // namespace loraine
