// The frozen base: configuration and weights, const once loaded. One model serves any number of adapter sets.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/io/tensors/tensor_source.h"
#include "loraine/model/config.h"
#include "loraine/model/parameters.h"
#include "loraine/quant/weight.h"

namespace loraine {

class Layer;
struct Norm;

struct Model {
  Model();
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  ModelConfig config;
  std::string path;
  Tensor embedding;         // [V, C] as stored
  Buffer embedding_memory;  // empty when mapped
  Site head;                // [V, C]; the embedding itself when tied
  std::unique_ptr<Norm> embedding_norm, final_norm;
  std::vector<std::unique_ptr<Layer>> layers;
  bool use_bf16 = false;
  bool untied_by_file = false;  // config.json ties embedding and head, the file has two different ones
  // For a model that may be larger than memory and is read once or twice: each layer's mapped weights leave memory when it is done.
  bool read_once = false;
  // For a model that is larger than memory by its experts: those that a batch has chosen are asked for from their file before products
  // take them.
  bool reads_experts_ahead = false;
  std::shared_ptr<TensorSource> source;  // keeps mapped weights alive

  std::vector<const Weight*> sites() const;  // by number, the head last; what attach_lora takes
  std::vector<Weight*> sites_to_change();    // the same, for what changes the base before a run
  std::vector<Weight*> layer_sites();        // the same without the head
  std::vector<const Weight*> layer_sites() const;
  std::vector<const Vector*> vectors() const;         // by number
  std::vector<const ExpertWeights*> experts() const;  // by number
  std::vector<const Table*> tables() const;           // by number, without the embedding
  std::vector<ExpertWeights*> experts_to_change();
  std::vector<WeightPart*> block_parts();  // all matrices of the layers, those of experts too
  std::vector<const WeightPart*> block_parts() const;
  int64_t parameter_count() const;
  size_t weight_bytes() const;
  // With read_once: lets a weight (or rows of it) that is not in `owned` memory go; it can be used again, from the file.
  void release(const Tensor& weight, const Buffer& owned) const;
  // Activations that products take, keys and values; the residual stream and its gradient stay F32.
  Dtype activation_dtype() const { return use_bf16 ? Dtype::BF16 : Dtype::F32; }
};

}  // namespace loraine
