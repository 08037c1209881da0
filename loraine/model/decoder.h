// The decoder: one forward for training, evaluation, chat and serving, and its hand-written backward. Called by train, generate, export,
// trace.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "loraine/core/batch.h"
#include "loraine/kernels/experts/balance.h"
#include "loraine/model/model.h"

namespace loraine {

// What a branch of a layer keeps from forward to backward. T rows. *: in Model::activation_dtype, the others F32. Everything else is
// rebuilt elementwise.
struct BranchActivations {
  Tensor x;                     // * [T, C] what it reads
  Tensor sum;                   // * [T, C] the residual stream that it adds to: x itself but for a branch beside another
  Tensor before;                // [1 or 2, T] statistics of the norm before the mixer
  Tensor given, after;          // * [T, C] what the mixer gave, and the statistics of the norm after it, where there is one
  std::vector<Tensor> kept;     // the mixer's own
  std::vector<Tensor> lasting;  // what is never computed once more: later layers read it too
};

// What the backward computes once more instead of keeping it (gradient checkpointing), fastest first. `mlp`: the insides of mixers of
// channels. `block`: those of all mixers, and the stream between the branches (but where it is rounded). The layers then share one room for
// what is not kept. All three give the same bits.
enum class Recompute { none, mlp, block };

struct Activations {
  std::vector<std::vector<BranchActivations>> layers;  // in one room that all share when not training
  std::vector<Tensor> columns;                         // * [T, saved_width] of the adapters, per site; one for all when not training
  std::vector<Tensor> expert_columns;                  // * [T · K, rank] of those on experts; empty when not training
  Recompute recompute = Recompute::none;
  Tensor embedded, embedded_norm;    // [T, C] F32 the embeddings, and the statistics of the norm on them, where there is one
  Tensor x_last, last_norm, hidden;  // * [T, C] residual after the last layer, statistics, * [T, C] after the final norm
  Tensor stream;                     // [T, C] F32, with BF16 activations only: the residual stream itself, of which the x are roundings
  bool training = false;
  const Tensor& columns_of(int64_t site) const { return columns[columns.size() == 1 ? 0 : static_cast<size_t>(site)]; }
};

// What decoding carries from one batch to the next, per layer and branch: rows of keys and values, addressed by Sequence.kv_start, and
// states, by Sequence.slot.
struct KvCache {
  KvCache() = default;
  KvCache(const Model& model, int64_t capacity, int64_t sequences = 1);
  int64_t capacity = 0, sequences = 0;
  std::vector<std::vector<std::vector<Tensor>>> layers;
  std::vector<Tensor> rows() const;  // those with a row per token: keys and values
  bool has_states() const;           // whether any has a row per sequence
  Arena memory;
};
size_t kv_cache_bytes(const Model& model, int64_t capacity, int64_t sequences = 1);

// The load-balancing loss of experts over one batch: a forward adds up its sums, a backward adds the gradient of factor · loss.
struct RouterBalance {
  BalanceSums sums;
  double factor = 0;
  bool adding = false;  // while the forward runs, and not where parts of it are computed once more
};

// Called before the base's product of a site, with the rows x [T, in] that it takes.
using BeforeSite = std::function<void(int64_t site, const Tensor& x)>;

// What a batch runs with: saved activations, KV cache (nullptr when training), adapter sets (Batch.adapter_rows say which rows), scratch.
struct Pass {
  Activations* activations = nullptr;
  KvCache* cache = nullptr;
  std::vector<const AdapterSet*> adapters;
  Arena* scratch = nullptr;
  bool training = false;             // dropout on, activations kept
  BeforeSite before_site = {};       // without training
  RouterBalance* balance = nullptr;  // where the loss has it
  float embedding_noise = 0;         // NEFTune, while training: uniform noise of at most this size on every element of the embeddings
};

// Lays out activations for batches of at most `rows` rows; run it on a dry arena to measure.
Activations plan_activations(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters, Arena& arena,
                             Recompute recompute = Recompute::none);
// expert_columns: of adapters on experts that may come later, the largest rank.
size_t scratch_bytes(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters,
                     int64_t expert_columns = 0);
// What each thread of the backward keeps for itself, with sequences of at most `longest`; `share`: some of them share rows.
size_t thread_bytes(const Model& model, int64_t rows, int64_t longest, bool share = false);
// Tokens that a sequence may have at most to share the rows that it begins with; 0: the model has layers that cannot share.
int64_t shares_up_to(const Model& model);

// Where an adapter of aLoRA is on: from the last place of `invocation` among a sequence's tokens; their number where it is not there.
int64_t invoked_from(std::span<const int32_t> tokens, std::span<const int32_t> invocation);

// The residual stream before the first layer alone, for who walks through the layers one by one: fills activations.layers[0][0].x (and
// `stream`, where there is one).
void embed_tokens(Context& ctx, const Model& model, const Batch& batch, Pass& pass);
// Fills pass.activations->hidden [T, C] (first batch.rows() rows). Rows of sets with invocation tokens run with them from there on; with a
// cache the caller's adapter_rows count as they are.
void decoder_forward(Context& ctx, const Model& model, const Batch& batch, Pass& pass);
// d_hidden [T, C] F32 is the gradient of `hidden` and is overwritten. Adapter gradients of pass.adapters[0] are accumulated.
void decoder_backward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, AdapterSet& trained, const Tensor& d_hidden);

// logits [n, V] F32 = head(hidden[rows]) for a few rows, with the set's own head and the adapter on it (set may be nullptr). saved [n,
// width] takes the columns of that adapter for its backward; without it (data == nullptr) they lie in scratch for the time of the call.
void head_logits(Context& ctx, const Model& model, const Tensor& logits, const Tensor& hidden, const AdapterSet* set, Arena& scratch,
                 const Tensor& saved = {}, bool training = false);
// d_logits [n, V], of the logits as head_logits gives them, becomes that of the head's product. capped: those logits, where the model caps
// them (logit_softcap), else without data.
void logits_backward(Context& ctx, const Model& model, const Tensor& d_logits, const Tensor& capped);
// d_hidden [n, C] F32 = the gradient of `hidden`; gradients of the head, where it is trained, are accumulated.
void head_backward(Context& ctx, const Model& model, const AdapterSet* trained, const Tensor& d_hidden, const Tensor& d_logits,
                   const Tensor& hidden, const Tensor& saved, Arena& scratch);
// Whether logits with the set (which may be nullptr) come from another head than the base's.
bool changes_head(const AdapterSet* set);
// Scratch of the two for n rows, beside what they are given.
size_t head_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set);

}  // namespace loraine
