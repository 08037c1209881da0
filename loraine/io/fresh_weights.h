// A model's tensors with the values that they have before any training, in the place of those in its files. Called by train.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "loraine/io/model_files.h"

namespace loraine {

// As transformers starts a model: matrices are normal with the standard deviation initializer_range of config.json (0.02 without one), the
// weights of norms 1, biases 0. The same seed gives the same values on every machine; they are not torch's. tensors: their names and
// shapes, sorted by name.
std::shared_ptr<TensorSource> fresh_weights(const ModelFiles& files, std::vector<TensorInfo> tensors, uint64_t seed);

}  // namespace loraine
