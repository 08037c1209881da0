// What is added at a linear site. A site is one fused weight of one layer (q,k,v · o · gate,up · down, …); an adapter holds what is
// trained there.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/exact_merge.h"
#include "loraine/core/context.h"
#include "loraine/core/tensor.h"
#include "loraine/kernels/products/low_rank_rows.h"
#include "loraine/quant/weight.h"

namespace loraine {

// One trained tensor: its PEFT name, value and gradient, F32 and contiguous.
struct Parameter {
  std::string name;  // "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
  Tensor value;
  Tensor gradient;  // data == nullptr when the adapter is not trained
};

// What is adapted of one part of a fused weight.
struct LoraPart {
  int part = 0;        // which part of the fused weight
  int64_t offset = 0;  // first column of this part in y
  int64_t out = 0, r = 0;
  float scale = 1;
  std::string name;  // module path
};

struct AdapterMatrices {
  LoraPart part;
  Tensor a, b;       // [r, in], [out, r]
  Tensor bias = {};  // [out] of B, or nothing
};

// What is added to the bias of a part: scale · bias.
struct BiasToAdd {
  int part = 0;
  float scale = 1;
  Tensor bias;  // [out]
};

class Lora;

class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual int64_t saved_width() const = 0;  // columns per row kept from forward to backward, in the type of x
  // y [T, out] += adapter(x [T, in]); saved [T, saved_width()]. training switches dropout on. scratch is released before returning.
  virtual void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const = 0;
  // d_x += gradient through the adapter (skipped when d_x.data == nullptr); gradients of the parameters are accumulated.
  virtual void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) = 0;
  // When `forward` without training is y += Σ scale · B A x and no more: its matrices, so that one kernel runs all adapters of a site.
  virtual std::optional<LowRank> low_rank() const { return std::nullopt; }
  // Whether the adapter makes the base's product itself, over another input (OFT): its rows are then given to site_forward alone.
  virtual bool takes_base() const { return false; }
  // y = base and adapter together.
  virtual void site_forward(Context& ctx, const Weight& base, const Tensor& y, const Tensor& x, const Tensor& saved, bool training,
                            Arena& scratch) const;
  // The backward of base and adapter together: d_x (skipped when its data is nullptr) is overwritten.
  virtual void site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved,
                             Arena& scratch);
  // Columns per row that site_forward and site_backward take beyond saved_width() and the site's own.
  virtual int64_t scratch_width() const { return 0; }
  virtual std::vector<Parameter> parameters() const = 0;
  virtual bool adapts(int part) const = 0;
  // w [out, in] F32 of an adapted part `part` becomes the merged weight.
  virtual void merge_into(Context& ctx, const Tensor& w, int part) const = 0;
  // The same in double for a single row, to check a merge with.
  virtual MergeRow exact_merge(int part) const = 0;
  // What the bias of an adapted part is multiplied with, [out], where a merge changes it too ((IA)³); otherwise nullptr.
  virtual const float* bias_factors(int) const { return nullptr; }
  // What a merge adds to the biases of parts.
  virtual std::vector<BiasToAdd> biases_to_add() const { return {}; }
  // A and B of each part, for the starts of start.h; a method that starts in its own way has none.
  virtual std::vector<AdapterMatrices> matrices() const { return {}; }
  // First values of all other parameters (DoRA's magnitudes), once A, B and the base have theirs.
  virtual void initialise(Context&, uint64_t) {}
  // To be called after parameters have changed (read, initialised, updated): rebuilds what is computed from them.
  virtual void refresh(Context&) {}
  // To be called after the last backward before an update: gradients of parameters that the backward does not write itself.
  virtual void finish_gradients(Context&) {}
  // The same adapter as A and B alone, where it can be written so; several such can be on together. Values as of the last refresh().
  virtual const Lora* as_lora() const { return nullptr; }
};

struct DenseSet;      // adapters/dense.h
class MethodTensors;  // adapters/peft_methods/method_tensors.h
class EmbeddingLora;  // adapters/embedding_lora.h
class ExpertLora;     // adapters/expert_lora.h

// Rows of embedding or head in the place of the base's (PEFT's trainable_token_indices).
struct TokenRows {
  std::string base_name;  // "model.embed_tokens.weight"
  std::vector<int64_t> ids;
  Parameter rows;                              // [ids, C], with a gradient where they are trained
  Buffer memory;                               // of values and gradients
  bool of_embedding = false, of_head = false;  // both where the two are one table
  bool table_stored = false;                   // the adapter's file has the whole table too
};

// One named adapter over all its sites. Switching adapters is changing a pointer to a set.
struct AdapterSet {
  std::string name = "default";
  std::vector<std::unique_ptr<Adapter>> sites;       // by the model's numbers of sites (Model::sites); empty where nothing is adapted
  int64_t head_site = -1;                            // the number of the head, where it is among them
  std::shared_ptr<DenseSet> dense;                   // trained tensors in the place of the base's, or nothing
  std::shared_ptr<MethodTensors> shared;             // what the sites of a method have in common (VeRA's A and B), or nothing
  std::shared_ptr<EmbeddingLora> embedding;          // LoRA on the embedding, or nothing
  std::vector<std::shared_ptr<ExpertLora>> experts;  // LoRA on experts, by the model's numbers; empty where nothing is adapted
  std::vector<TokenRows> token_rows;                 // `dense` has the whole tables, with these rows in them
  std::vector<int32_t> invocation;                   // aLoRA: rows run with the set from the last place of these tokens; empty: all do
  std::vector<Parameter> beside;                     // written with the parameters, not trained: base tensors that PEFT stores too
  Adapter* at(int64_t site) const { return sites[static_cast<size_t>(site)].get(); }
  ExpertLora* expert(int64_t number) const { return experts.empty() ? nullptr : experts[static_cast<size_t>(number)].get(); }
  Adapter* head() const { return head_site >= 0 ? at(head_site) : nullptr; }
  std::vector<Parameter> parameters() const;  // sorted by name
  void refresh(Context& ctx) const;           // of all sites; rows of tokens into their tables
  void finish_gradients(Context& ctx) const;
};

}  // namespace loraine
