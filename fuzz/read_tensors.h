// Reads every tensor that a source claims to have. Used by the targets of weight files.
#pragma once

#include <cstdlib>
#include <vector>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// file_size: of the input in bytes; a source that has more elements than that (four in a byte,
// at most) has believed its header.
inline void read_every_tensor(const TensorSource& source, size_t file_size) {
  for (const TensorInfo& info : source.tensors()) {
    int64_t count = 1;
    for (int64_t extent : info.shape) count *= extent;
    if (static_cast<size_t>(count) > 4 * file_size) std::abort();
    if (source.map(info).data && count) {
      volatile char first = static_cast<const char*>(source.map(info).data)[0];
      (void)first;
    }
    if (info.dtype != Dtype::F32 && info.dtype != Dtype::F16 && info.dtype != Dtype::BF16) continue;
    std::vector<float> values(static_cast<size_t>(count));
    source.read(info, Tensor(values.data(), Dtype::F32, info.shape));
  }
}

}  // namespace loraine
