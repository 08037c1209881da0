// Planned device memory, as Arena plans the host's: a pass over a dry one measures, a second one over memory of that size hands out views.
#pragma once
#include <initializer_list>

#include "loraine/core/error.h"
#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

class GpuArena {
 public:
  GpuArena() = default;  // dry: counts only, and its views lie nowhere
  explicit GpuArena(size_t bytes) : memory_(bytes), dry_(false) {}
  bool dry() const { return dry_; }
  size_t used() const { return used_; }
  void* take_bytes(size_t bytes) {  // 256-byte aligned
    const size_t at = used_;
    used_ += (bytes + 255) / 256 * 256;
    if (dry_) return reinterpret_cast<void*>(256 + at);
    if (used_ > memory_.bytes()) throw Error(ErrorKind::internal, "device memory: more is taken than was planned");
    return static_cast<char*>(memory_.data()) + at;
  }
  Tensor take(Dtype dtype, std::initializer_list<int64_t> shape) {
    Tensor t(nullptr, dtype, shape);
    t.data = take_bytes(t.bytes());
    return t;
  }
  template <class T>
  T* take_array(int64_t n) {
    return static_cast<T*>(take_bytes(static_cast<size_t>(n) * sizeof(T)));
  }

 private:
  GpuMemory memory_;
  size_t used_ = 0;
  bool dry_ = true;
};

}  // namespace loraine
