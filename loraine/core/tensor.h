// A tensor is a view: type, shape and a pointer into memory that somebody else owns (a mapped file, a Buffer, an Arena).
#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/dtype.h"
#include "loraine/core/quant_state.h"

namespace loraine {

struct Tensor {
  void* data = nullptr;
  Dtype dtype = Dtype::F32;
  int rank = 0;
  int64_t shape[4] = {1, 1, 1, 1};
  int64_t row_stride = 0;             // elements from one index of dimension 0 to the next; inner dimensions are contiguous
  const QuantState* quant = nullptr;  // where has_quant_state(dtype)

  Tensor() = default;
  Tensor(void* data_, Dtype dtype_, std::span<const int64_t> shape_);
  Tensor(void* data_, Dtype dtype_, std::initializer_list<int64_t> shape_)
      : Tensor(data_, dtype_, std::span<const int64_t>(shape_.begin(), shape_.size())) {}

  int64_t rows() const { return shape[0]; }
  int64_t cols() const { return shape[1] * shape[2] * shape[3]; }  // product of all dimensions but the first
  int64_t numel() const { return rows() * cols(); }
  bool contiguous() const { return row_stride == cols() || rows() == 1; }
  size_t bytes() const { return static_cast<size_t>(bytes_of(dtype, numel())); }
  Tensor row_range(int64_t first, int64_t count) const {  // rows [first, first + count)
    Tensor t = *this;
    t.data = static_cast<char*>(data) + bytes_of(dtype, first * row_stride);
    t.shape[0] = count;
    return t;
  }
  Tensor col_range(int64_t first, int64_t count) const {  // columns of a rank-2 tensor; of a packed one, first is a multiple of the block
    Tensor t = *this;
    t.data = static_cast<char*>(data) + bytes_of(dtype, first);
    t.shape[1] = count;
    return t;
  }
  float* f32() const {  // data as float; throws internal when the dtype is another
    if (dtype != Dtype::F32) not_f32();
    return static_cast<float*>(data);
  }
  std::string shape_text() const;  // "[2048, 1024]"

 private:
  [[noreturn]] void not_f32() const;
};

// Owned memory, 64-byte aligned, zero-filled on demand.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes, bool zero = false);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Planned memory. A first pass over a dry arena (no memory) measures the peak; a second pass over a real one of that size hands out views.
class Arena {
 public:
  Arena() = default;  // dry: counts only
  explicit Arena(size_t bytes) : memory_(bytes), capacity_(bytes), dry_(false) {}
  bool dry() const { return dry_; }
  Tensor take(Dtype dtype, std::initializer_list<int64_t> shape);  // 64-byte aligned; throws out_of_memory past the capacity
  size_t mark() const { return used_; }
  void release(size_t mark) { used_ = mark; }
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }

 private:
  Buffer memory_;
  size_t capacity_ = 0, used_ = 0, peak_ = 0;
  bool dry_ = true;
};

}  // namespace loraine
