// The decoder: one forward for training, evaluation, chat and serving, and its hand-written backward. Called by train, generate, export,
// trace.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "loraine/core/batch.h"
#include "loraine/model/model.h"

namespace loraine {

// What a block keeps from forward to backward. T rows. *: in Model::activation_dtype, the others F32. Everything else is rebuilt
// elementwise.
struct BlockActivations {
  Tensor x, rstd1;             // * [T, C] residual input, [T]
  Tensor qkv;                  // * [T, (Hq + 2 Hkv) D] after norm and rotation
  Tensor qk_before_norm;       // * [T, (Hq + Hkv) D] and
  Tensor qk_rstd;              // [Hq + Hkv, T], with qk_norm only
  Tensor o, lse;               // * [T, Hq D], [T, Hq]
  Tensor x_mid, rstd2;         // * [T, C], [T]
  Tensor gate_up;              // * [T, 2F]
  Tensor adapter[kSiteKinds];  // * [T, saved_width] per site
};

// What the backward computes once more instead of keeping it (gradient checkpointing), fastest first. `mlp`: gate_up. `block`: everything
// but x (and x_mid, where it is rounded) and the adapters' columns. The blocks then share one tensor of each kind that is not kept. All
// three give the same bits.
enum class Recompute { none, mlp, block };

struct Activations {
  std::vector<BlockActivations> blocks;  // one per layer when training; one shared by all layers otherwise
  Recompute recompute = Recompute::none;
  Tensor x_last, rstd_last, hidden;  // * [T, C] residual after the last block, [T], * [T, C] after the final norm
  Tensor stream;  // [T, C] F32, with BF16 activations only: the residual stream itself, of which x and x_mid are roundings
  bool training = false;
};

// Keys and values of all layers; rows are addressed by Sequence.kv_start.
struct KvCache {
  KvCache() = default;
  KvCache(const Model& model, int64_t capacity);
  int64_t capacity = 0;
  std::vector<Tensor> k, v;  // * per layer [capacity, Hkv D]
  Buffer memory;
};
size_t kv_cache_bytes(const Model& model, int64_t capacity);

// What a batch runs with: saved activations, KV cache (nullptr when training), adapter sets (Batch.adapter_rows say which rows), scratch.
struct Pass {
  Activations* activations = nullptr;
  KvCache* cache = nullptr;
  std::vector<const AdapterSet*> adapters;
  Arena* scratch = nullptr;
  bool training = false;                                          // dropout on, activations kept
  std::function<void(int64_t layer, SiteKind)> before_site = {};  // without training: called before the product of a site
  float embedding_noise = 0;  // NEFTune, while training: uniform noise of at most this size on every element of the embeddings
};

// Lays out activations for batches of at most `rows` rows; run it on a dry arena to measure.
Activations plan_activations(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters, Arena& arena,
                             Recompute recompute = Recompute::none);
size_t scratch_bytes(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters);

// Fills pass.activations->hidden [T, C] (first batch.rows() rows).
void decoder_forward(Context& ctx, const Model& model, const Batch& batch, Pass& pass);
// d_hidden [T, C] F32 is the gradient of `hidden` and is overwritten. Adapter gradients of pass.adapters[0] are accumulated.
void decoder_backward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, AdapterSet& trained, const Tensor& d_hidden);

// logits [n, V] F32 = head(hidden[rows]) for a few rows, with the set's own head and the adapter on it (set may be nullptr). saved [n,
// width] takes the columns of that adapter for its backward; without it (data == nullptr) they lie in scratch for the time of the call.
void head_logits(Context& ctx, const Model& model, const Tensor& logits, const Tensor& hidden, const AdapterSet* set, Arena& scratch,
                 const Tensor& saved = {}, bool training = false);
// d_hidden [n, C] F32 = the gradient of `hidden`; gradients of the head, where it is trained, are accumulated.
void head_backward(Context& ctx, const Model& model, const AdapterSet* trained, const Tensor& d_hidden, const Tensor& d_logits,
                   const Tensor& hidden, const Tensor& saved, Arena& scratch);
// Whether logits with the set (which may be nullptr) come from another head than the base's.
bool changes_head(const AdapterSet* set);
// Scratch of the two for n rows, beside what they are given.
size_t head_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set);

}  // namespace loraine
