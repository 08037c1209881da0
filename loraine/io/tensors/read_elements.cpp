// Copies with conversion between storage and tensors.
#include "loraine/io/tensors/read_elements.h"

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"

namespace loraine {
namespace {

// Calls piece(pointer into out, index of its first element, count) for contiguous stretches of elements [first, first + count).
template <class Piece>
void for_stretches(const Tensor& out, int64_t first, int64_t count, Piece&& piece) {
  char* base = static_cast<char*>(out.data);
  size_t size = size_of(out.dtype);
  if (out.contiguous()) return piece(base + static_cast<size_t>(first) * size, first, count);
  int64_t cols = out.cols();
  while (count > 0) {
    int64_t row = first / cols, col = first % cols, n = std::min(count, cols - col);
    piece(base + static_cast<size_t>(row * out.row_stride + col) * size, first, n);
    first += n;
    count -= n;
  }
}

}  // namespace

int64_t element_count(const TensorInfo& info) {
  int64_t count = 1;
  for (int64_t size : info.shape) count *= size;  // checked when the file was opened
  return count;
}

void check_destination(const TensorInfo& info, const Tensor& out) {
  if (out.numel() != element_count(info) || (!out.data && out.numel() > 0))
    throw Error(ErrorKind::internal, info.name + ": read into a tensor of shape " + out.shape_text());
}

void read_plain(const TensorInfo& info, const unsigned char* source, const Tensor& out) {
  check_destination(info, out);
  const int64_t count = element_count(info), piece = 1 << 16;
  const size_t size = size_of(info.dtype);
  if (info.dtype != out.dtype && (size_of(info.dtype) < 2 || (info.dtype >= Dtype::I64) || out.dtype >= Dtype::F64))
    throw Error(ErrorKind::bad_data, info.file + ": " + info.name + " is stored as " + info.stored_as + ", expected a floating type");
  const auto read_piece = [&](int64_t number) {
    const int64_t first = number * piece;
    for_stretches(out, first, std::min(piece, count - first), [&](void* to, int64_t at, int64_t n) {
      const unsigned char* from = source + static_cast<size_t>(at) * size;
      if (info.dtype == out.dtype) {
        std::memcpy(to, from, static_cast<size_t>(n) * size);
      } else if (reinterpret_cast<uintptr_t>(from) % size == 0) {
        convert(to, out.dtype, from, info.dtype, n);
      } else {
        alignas(8) unsigned char staged[2048];
        for (int64_t done = 0; done < n;) {
          int64_t part = std::min<int64_t>(n - done, static_cast<int64_t>(sizeof staged / size));
          std::memcpy(staged, from + static_cast<size_t>(done) * size, static_cast<size_t>(part) * size);
          convert(static_cast<char*>(to) + static_cast<size_t>(done) * size_of(out.dtype), out.dtype, staged, info.dtype, part);
          done += part;
        }
      }
    });
  };
  parallel_for((count + piece - 1) / piece, read_piece, 4);
}

void store_f32(const Tensor& out, int64_t first, const float* values, int64_t count) {
  for_stretches(out, first, count, [&](void* to, int64_t at, int64_t n) { convert(to, out.dtype, values + (at - first), Dtype::F32, n); });
}

}  // namespace loraine
