// Trained tensors in the place of the base's own: full and freeze training, PEFT's modules_to_save and bias. The base stays as it is; rows
// that run with the set use these. Filled by model/attach_dense, read by model/decoder.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {

struct DenseTensor {
  Tensor value, gradient;  // F32; value.data == nullptr: the base's is used, gradient.data == nullptr: it is not trained
};

struct DenseSite {
  Weight weight;  // all parts of the site, those of the base as views; empty where nothing of the site is replaced
  Tensor d_weight[kMostParts], d_bias[kMostParts];
  bool trains() const {
    for (size_t p = 0; p < kMostParts; ++p)
      if (d_weight[p].data || d_bias[p].data) return true;
    return false;
  }
};

struct DenseSet {
  DenseTensor embedding;
  std::vector<DenseSite> sites;                     // by the model's numbers of sites
  std::vector<DenseTensor> vectors;                 // by its numbers of vectors: weights of norms and the like
  std::vector<DenseTensor> tables;                  // by its numbers of tables beside the embedding
  std::vector<Parameter> parameters;                // under the names of their file
  std::vector<std::string> base_name, stored_name;  // of parameters[i]: "model.layers.0.mlp.up_proj.weight", as adapters and as files say
  Buffer memory;
  size_t replaced_bytes = 0;  // of mapped base tensors that are no longer read

  // The tensor that takes the place of the base's `name` (or of `stored` in its files); data == nullptr when there is none.
  Tensor find(const std::string& name) const { return find_in(base_name, name); }
  Tensor find_stored(const std::string& stored) const { return find_in(stored_name, stored); }

 private:
  Tensor find_in(const std::vector<std::string>& names, const std::string& name) const {
    for (size_t i = 0; i < names.size(); ++i)
      if (names[i] == name) return parameters[i].value;
    return {};
  }
};

}  // namespace loraine
