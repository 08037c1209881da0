// How a safetensors file is laid out, shared by write_safetensors and by writers that produce one tensor at a time (convert_gguf).
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "loraine/core/dtype.h"

namespace loraine {

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<int64_t> shape;
};

using WriteBytes = std::function<void(const void* data, size_t bytes)>;

// Calls `produce(index, write)` once per entry, in the file's order; it must write exactly the bytes of entries[index].
void stream_safetensors(const std::string& file, const std::vector<SafetensorsEntry>& entries,
                        const std::map<std::string, std::string>& metadata,
                        const std::function<void(size_t index, const WriteBytes& write)>& produce);

}  // namespace loraine
