// One block of the decoder: its steps, and what steps of every kind share. Called by decoder and head.
#pragma once
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "loraine/adapters/dense.h"
#include "loraine/core/error.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/model/decoder.h"

namespace loraine {

inline Tensor vector_view(const std::vector<float>& v) {
  return Tensor(const_cast<float*>(v.data()), Dtype::F32, {static_cast<int64_t>(v.size())});
}

// f(first row, number of rows, set) for the ranges of the batch and the gaps between them (set == nullptr), in order; one call for all rows
// where no set has trained tensors in the place of the base's.
template <class F>
void for_each_dense(const Batch& batch, const Pass& pass, const F& f) {
  if (std::ranges::none_of(pass.adapters, [](const AdapterSet* set) { return set->dense != nullptr; })) return f(0, batch.rows(), nullptr);
  int64_t next = 0;
  for (const AdapterRows& range : batch.adapter_rows) {
    if (range.start < next) throw Error(ErrorKind::internal, "adapter rows overlap or are out of order");
    if (range.start > next) f(next, range.start - next, nullptr);
    f(range.start, range.length, pass.adapters.at(static_cast<size_t>(range.set))->dense.get());
    next = range.start + range.length;
  }
  if (next < batch.rows()) f(next, batch.rows() - next, nullptr);
}

// dW += dYᵀ X and db += Σ dY of the parts that are trained
void dense_site_gradients(Context& ctx, const DenseSite& site, const Tensor& d_y, const Tensor& x);
// Without training, adapters that are plain low-rank products run together: a row then has the same bits in a range of any length, and a
// batch of many adapters costs little more than one of one.
std::optional<LowRank> run_by_rows(const Adapter& adapter, bool training);

struct Step {  // what every step of one block needs
  Context& ctx;
  const Model& model;
  const Batch& batch;
  Pass& pass;
  int64_t layer;
  const ModelConfig& c() const { return model.config; }
  const BlockWeights& weights() const { return model.blocks[static_cast<size_t>(layer)]; }
  BlockActivations& saved() const { return pass.activations->blocks[pass.activations->training ? static_cast<size_t>(layer) : 0]; }
  const DenseBlock* dense(const DenseSet* set) const { return set ? &set->blocks[static_cast<size_t>(layer)] : nullptr; }
  Tensor rows(const Tensor& t) const { return t.row_range(0, batch.rows()); }
  Dtype type() const { return model.activation_dtype(); }
  Tensor scratch(Dtype dtype, int64_t cols) const { return pass.scratch->take(dtype, {batch.rows(), cols}); }
  AttentionShape attention_shape() const {
    return {c().num_attention_heads, c().num_key_value_heads, c().head_dim, c().window[static_cast<size_t>(layer)],
            1.0f / std::sqrt(static_cast<float>(c().head_dim))};
  }
};

// Each fills its part of s.saved().
void attention_forward(const Step& s, bool again = false);  // again: in the backward, where a rounded x_mid is still there
void gate_up_forward(const Step& s);
void down_forward(const Step& s, const Tensor& x_next);  // x_next [T, C]: the residual stream after this block
// What the forward did not keep; called where the backward of the block begins. The last block's are still there.
void recompute(const Step& s);
// d_x [T, C] F32: gradient of the block's output on entry, of its input on return (left unfinished when the block is the first one).
void block_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, bool first);

}  // namespace loraine
