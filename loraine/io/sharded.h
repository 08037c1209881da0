// A model cut into several files by model.safetensors.index.json or pytorch_model.bin.index.json. Called by open_tensor_source.
#pragma once
#include <memory>
#include <string>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

std::unique_ptr<TensorSource> open_sharded(const std::string& folder, const std::string& index_file);

}  // namespace loraine
