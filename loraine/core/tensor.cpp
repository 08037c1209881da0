// Views, owned buffers and the planned arena.
#include "loraine/core/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "loraine/core/error.h"

namespace loraine {

Tensor::Tensor(void* data_, Dtype dtype_, std::span<const int64_t> shape_) : data(data_), dtype(dtype_) {
  rank = static_cast<int>(std::min<size_t>(shape_.size(), 4));
  for (size_t i = 0; i < shape_.size(); ++i) shape[std::min<size_t>(i, 3)] *= shape_[i];
  row_stride = cols();
}

void Tensor::not_f32() const { throw Error(ErrorKind::internal, std::string("expected an F32 tensor, found ") + name_of(dtype)); }

std::string Tensor::shape_text() const {
  std::string text = "[";
  for (int i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Buffer::Buffer(size_t bytes, bool zero) : bytes_(bytes) {
  size_t rounded = (bytes + 63) / 64 * 64;
  if (rounded == 0) return;
  data_ = std::aligned_alloc(64, rounded);
  if (!data_) throw Error(ErrorKind::out_of_memory, "cannot allocate " + std::to_string(bytes >> 20) + " MiB");
  if (zero) std::memset(data_, 0, rounded);
}
Buffer::~Buffer() { std::free(data_); }
Buffer::Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Tensor Arena::take(Dtype dtype, std::initializer_list<int64_t> shape) {
  Tensor t(nullptr, dtype, shape);
  size_t bytes = (t.bytes() + 63) / 64 * 64;
  if (!dry_) {
    if (used_ + bytes > capacity_) throw Error(ErrorKind::internal, "the planned memory is too small: a plan and its use differ");
    t.data = static_cast<char*>(memory_.data()) + used_;
  }
  used_ += bytes;
  if (used_ > peak_) peak_ = used_;
  return t;
}

}  // namespace loraine
