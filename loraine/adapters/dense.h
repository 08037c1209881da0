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

// One parameter of experts, whose matrices lie one after the other; empty where the base's is used.
struct DenseExperts {
  std::vector<Tensor> matrices, gradients;  // by expert, [out, in], or [in, out] where the base's are transposed
};

// A tensor in the model's files that is a trained one, or a part of it: files may have the matrices of experts apart that are one
// parameter. Its rows may be strided.
struct StoredTensor {
  std::string name;
  Tensor value;
};

struct DenseSet {
  DenseTensor embedding;
  std::vector<DenseSite> sites;        // by the model's numbers of sites
  std::vector<DenseTensor> vectors;    // by its numbers of vectors: weights of norms and the like
  std::vector<DenseTensor> tables;     // by its numbers of tables beside the embedding
  std::vector<DenseExperts> experts;   // by its numbers of experts' parameters
  std::vector<Parameter> parameters;   // under the names of their file
  std::vector<std::string> base_name;  // of parameters[i], as adapters say: "model.layers.0.mlp.up_proj.weight"
  std::vector<StoredTensor> in_files;  // what they are in the model's files
  Buffer memory;
  size_t replaced_bytes = 0;  // of mapped base tensors that are no longer read

  // The tensor that takes the place of the base's `name`; data == nullptr when there is none.
  Tensor find(const std::string& name) const {
    for (size_t i = 0; i < base_name.size(); ++i)
      if (base_name[i] == name) return parameters[i].value;
    return {};
  }
};

}  // namespace loraine
