// A frozen base in device memory: the weights of a Model, prepared on the host and then moved, with the parts of a site in one matrix.
// Called by gpu_decoder.
#pragma once
#include <optional>
#include <vector>

#include "loraine/core/gpu_arena.h"
#include "loraine/kernels/norms/norms_cuda.h"
#include "loraine/model/gpu/gpu_adapter.h"
#include "loraine/model/gpu/gpu_packed.h"
#include "loraine/model/layer.h"
#include "loraine/model/mixers/attention.h"
#include "loraine/model/mixers/mlp.h"
#include "loraine/model/model.h"

namespace loraine {

struct GpuSite {
  Tensor weight;  // [out, in], in the activations' type; of a packed one the shape alone
  // Where LoRA trains that has R = joined_ranks columns there, and nothing is packed: [out + R, in + R], whose upper left is the weight;
  // s · B lies right of it and A below. So one product gives base and adapter, forward over in + R and back over out + R. Without data
  // elsewhere.
  Tensor joined;
  const float* bias = nullptr;        // [out], or nullptr
  int64_t index = -1;                 // the model's number of the site
  std::vector<GpuPackedPart> packed;  // all its parts, where one is packed: its products unpack them into room of their own
  int64_t ranks() const { return joined.data ? joined.rows() - weight.rows() : 0; }
  Tensor a() const { return joined.row_range(weight.rows(), ranks()).col_range(0, weight.cols()); }  // [R, in]
  Tensor b() const { return joined.row_range(0, weight.rows()).col_range(weight.cols(), ranks()); }  // [out, R]
};

struct GpuNorm {
  Tensor weight, bias;  // [C] F32; without data where the norm has none
  float eps = 0, offset = 0;
  NormKind kind = NormKind::none;
  explicit operator bool() const { return kind != NormKind::none; }
  int64_t statistics() const { return kind == NormKind::layer ? 2 : 1; }  // rows of F32 that it leaves: 1/deviation, mean
};

struct GpuBranch {  // attention or an MLP between its norms
  GpuNorm before, after;
  float scale = 1;
  bool beside = false;  // reads what the branch before it reads
  const AttentionConfig* attention = nullptr;
  const MlpConfig* mlp = nullptr;
  GpuSite in, out;                        // qkv and output, or gate | up and down
  std::vector<HeadNormGroup> head_norms;  // of q, k and v
  const float* frequencies = nullptr;     // of the rotation
  int64_t normed_columns() const;         // of q, k and v, up to the last that a norm takes
  int64_t normed_heads() const;
};

class GpuModel {
 public:
  // Of a model that gpu_lacks nothing; moves all of it. joined: sites have room for this set's LoRA.
  GpuModel(const Model& model, GpuStream& stream, const AdapterSet* joined = nullptr);
  static GpuModel shapes(const Model& model, const AdapterSet* joined = nullptr);  // the same without memory: its tensors lie nowhere
  // Values of the adapter, which was joined, into the sites.
  void join(GpuStream& stream, const GpuAdapter& adapter) const;
  // Where the values of one tensor of the adapter lie there, times the scale; nothing where its site is not joined.
  struct Copy {
    Tensor at;
    float scale;
  };
  std::optional<Copy> copy_of(const GpuAdapter& adapter, const GpuAdapter::Place& place) const;
  size_t bytes() const { return memory_.used(); }

  ModelConfig config;  // whose mixers' settings the branches point to
  Dtype type = Dtype::F32;
  Tensor embedding;  // [V, C], in the activations' type
  GpuSite head;      // the embedding itself where they are tied
  GpuNorm final_norm;
  std::vector<std::vector<GpuBranch>> layers;

 private:
  GpuModel(const Model& model, const AdapterSet* joined) : config(model.config), type(model.activation_dtype()), joined_(joined) {}
  std::vector<GpuPiece> lay_out(const Model& model, GpuArena& arena);
  GpuSite site(const Site& site, GpuArena& arena, std::vector<GpuPiece>& pieces) const;
  GpuNorm norm(const NormConfig& norm, const Vector& weight, const Vector& bias, GpuArena& arena, std::vector<GpuPiece>& pieces) const;
  GpuBranch branch(Branch& branch, const BranchConfig& config, GpuArena& arena, std::vector<GpuPiece>& pieces) const;

  const AdapterSet* joined_;  // while it is made
  GpuArena memory_;
};

}  // namespace loraine
