// The safetensors format: reader with every check of the reference implementation, and a writer. Used for models, adapters and traces.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

std::unique_ptr<TensorSource> open_safetensors(const std::string& file);

// Writes `tensors` (contiguous views) to `file`, durably: temporary name in the same folder, fsync, rename, fsync of the folder.
// Layout as the reference library: larger alignment first, then name; header padded to 8 with spaces; metadata as given ({"format":"pt"}).
void write_safetensors(const std::string& file, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace loraine
