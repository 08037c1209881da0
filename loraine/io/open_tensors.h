// Picks the reader for a path. Called by model_files, sharded and adapters.
#pragma once
#include <memory>
#include <string>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// path: a *.safetensors, *.gguf or *.bin file, or a folder with model.safetensors or pytorch_model.bin or the index of one. Every header is
// checked before use.
std::unique_ptr<TensorSource> open_tensor_source(const std::string& path);

}  // namespace loraine
