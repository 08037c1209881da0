// What the program asks of a stream of the GPU, counted when it is asked: launches, what each says that it moves and computes, copies,
// waits of the host. A stream made of GpuCosts alone does nothing else (core/gpu.h), so a step of any size is counted without its memory.
#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace loraine {

struct GpuCosts {
  struct Op {
    int64_t launches = 0;
    double bytes = 0;   // of device memory, each operand once, read and written
    double matrix = 0;  // FLOPs on the matrix units (2 a multiply-add)
    double scalar = 0;  // FLOPs elsewhere, where they are more than a few an element
    void add(const Op& more) { launches += more.launches, bytes += more.bytes, matrix += more.matrix, scalar += more.scalar; }
  };
  std::map<std::string, Op> ops;  // kernels by their name, the library's products as "product M×N×K"
  int64_t copies = 0, fills = 0, waits = 0, graphs = 0;
  double copied = 0, filled = 0;  // bytes
  int64_t silent = 0;             // launches that did not say what they move

  Op all() const {
    Op sum;
    for (const auto& [name, op] : ops) sum.add(op);
    return sum;
  }
};

}  // namespace loraine
