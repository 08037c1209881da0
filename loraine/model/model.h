// The frozen base: configuration and weights, const once loaded. One model serves any number of adapter sets.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/io/tensors/tensor_source.h"
#include "loraine/model/config.h"
#include "loraine/quant/weight.h"

namespace loraine {

struct BlockWeights {
  std::vector<float> input_norm, post_norm;  // [C]
  std::vector<float> q_norm, k_norm;         // [D], empty unless qk_norm
  Weight sites[kSiteKinds];                  // qkv, output, gate_up, down
};

struct Model {
  ModelConfig config;
  std::string path;
  Tensor embedding;               // [V, C] as stored
  Buffer embedding_memory;        // empty when mapped
  Weight head;                    // [V, C]; the embedding itself when tied
  std::vector<float> final_norm;  // [C]
  std::vector<BlockWeights> blocks;
  bool use_bf16 = false;
  bool untied_by_file = false;  // config.json ties embedding and head, the file has two different ones
  // For a model that may be larger than memory and is read once or twice: each block's mapped weights leave memory when it is done.
  bool read_once = false;
  std::shared_ptr<TensorSource> source;  // keeps mapped weights alive

  std::vector<const Weight*> sites() const;  // [layers · kSiteKinds + 1], the last one the head; what attach_lora takes
  std::vector<Weight*> sites_to_change();    // the same, for what changes the base before a run
  int64_t parameter_count() const;
  size_t weight_bytes() const;
  // With read_once: lets a weight (or rows of it) that is not in `owned` memory go; it can be used again, from the file.
  void release(const Tensor& weight, const Buffer& owned) const;
  // Activations that products take, keys and values; the residual stream and its gradient stay F32.
  Dtype activation_dtype() const { return use_bf16 ? Dtype::BF16 : Dtype::F32; }
};

}  // namespace loraine
