// The weights of a model as files: one, or shards with an index, streamed tensor by tensor. Called by export and by full training.
#pragma once
#include <string>
#include <vector>

#include "loraine/io/safetensors/safetensors_layout.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

struct WeightFormat {
  int64_t shard_bytes = 0;  // of a file at most
  bool legacy = false;      // pytorch_model.bin instead of model.safetensors
};

struct WeightToWrite {
  SafetensorsEntry entry;
  std::function<void(const WriteBytes&)> write;  // the bytes of the entry
};

// The matrix transposed; its bytes pass through memory at once.
WeightToWrite turned(WeightToWrite weight);
// A tensor of a source as it is stored there; one that is mapped goes by in pieces and leaves memory.
WeightToWrite stored_weight(const TensorSource& source, const TensorInfo& info);

// Writes the weights in their order into `folder`, which is made; gives the number of files.
int64_t write_weight_files(const std::vector<WeightToWrite>& weights, const std::string& folder, const WeightFormat& format);

}  // namespace loraine
