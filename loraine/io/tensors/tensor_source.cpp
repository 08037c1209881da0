// What all readers share.
#include "loraine/io/tensors/tensor_source.h"

#include <algorithm>

namespace loraine {

const TensorInfo* TensorSource::find(std::string_view name) const {
  const auto& all = tensors();
  auto at = std::lower_bound(all.begin(), all.end(), name, [](const TensorInfo& info, std::string_view key) { return info.name < key; });
  return at != all.end() && at->name == name ? &*at : nullptr;
}

}  // namespace loraine
