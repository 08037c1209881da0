// A frozen base in device memory: the weights of a Model, prepared on the host and then moved, with the parts of a site in one matrix.
// Called by gpu_decoder.
#pragma once
#include <optional>
#include <vector>

#include "loraine/core/gpu_arena.h"
#include "loraine/model/gpu/gpu_packed.h"
#include "loraine/model/layer.h"
#include "loraine/model/mixers/attention.h"
#include "loraine/model/mixers/mlp.h"
#include "loraine/model/model.h"

namespace loraine {

struct GpuSite {
  Tensor weight;                      // [out, in], in the activations' type; of a packed one the shape alone
  const float* bias = nullptr;        // [out], or nullptr
  int64_t index = -1;                 // the model's number of the site
  std::vector<GpuPackedPart> packed;  // all its parts, where one is packed: its products unpack them into room of their own
};

struct GpuNorm {
  Tensor weight, bias;  // [C] F32; without data where the norm has none
  float eps = 0, offset = 0;
  NormKind kind = NormKind::none;
  explicit operator bool() const { return kind != NormKind::none; }
  int64_t statistics() const { return kind == NormKind::layer ? 2 : 1; }  // rows of F32 that it leaves: 1/deviation, mean
};

struct GpuHeadNorm {  // of columns [first, first + width) of q, k and v
  int64_t first, width;
  GpuNorm norm;
};

struct GpuBranch {  // attention or an MLP between its norms
  GpuNorm before, after;
  float scale = 1;
  bool beside = false;  // reads what the branch before it reads
  const AttentionConfig* attention = nullptr;
  const MlpConfig* mlp = nullptr;
  GpuSite in, out;  // qkv and output, or gate | up and down
  std::vector<GpuHeadNorm> head_norms;
  const float* frequencies = nullptr;  // of the rotation
  int64_t normed_columns() const;      // of q, k and v, up to the last that a norm takes
};

class GpuModel {
 public:
  GpuModel(const Model& model, GpuStream& stream);  // of a model that gpu_lacks nothing; moves all of it
  static GpuModel shapes(const Model& model);       // the same without memory: its tensors lie nowhere
  size_t bytes() const { return memory_.used(); }

  ModelConfig config;  // whose mixers' settings the branches point to
  Dtype type = Dtype::F32;
  Tensor embedding;  // [V, C], in the activations' type
  GpuSite head;      // the embedding itself where they are tied
  GpuNorm final_norm;
  std::vector<std::vector<GpuBranch>> layers;

 private:
  explicit GpuModel(const Model& model) : config(model.config), type(model.activation_dtype()) {}
  std::vector<GpuPiece> lay_out(const Model& model, GpuArena& arena);
  GpuSite site(const Site& site, GpuArena& arena, std::vector<GpuPiece>& pieces) const;
  GpuNorm norm(const NormConfig& norm, const Vector& weight, const Vector& bias, GpuArena& arena, std::vector<GpuPiece>& pieces) const;
  GpuBranch branch(Branch& branch, const BranchConfig& config, GpuArena& arena, std::vector<GpuPiece>& pieces) const;

  GpuArena memory_;
};

}  // namespace loraine
