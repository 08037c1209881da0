// What every step of a layer needs, and what steps of all kinds share: products at sites with their adapters, vectors that a set may have
// in the place of the base's.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "loraine/adapters/dense.h"
#include "loraine/core/batch.h"
#include "loraine/core/context.h"
#include "loraine/core/error.h"
#include "loraine/model/decoder.h"
#include "loraine/model/parameters.h"

namespace loraine {

struct Step {
  Context& ctx;
  const Model& model;
  const Batch& batch;
  Pass& pass;
  int64_t layer = 0;
  std::span<const Tensor> kept_tensors = {}, carried = {};  // of the mixer (Mixer::plan_kept, plan_carried)
  Tensor kept(size_t i) const { return rows(kept_tensors[i]); }
  Tensor rows(const Tensor& t) const { return t.row_range(0, batch.rows()); }
  Dtype type() const { return model.activation_dtype(); }
  Tensor scratch(Dtype dtype, int64_t cols) const { return pass.scratch->take(dtype, {batch.rows(), cols}); }
  bool decoding() const { return pass.cache != nullptr; }
};

// f(first row, number of rows, set) for the ranges of the batch and the gaps between them (set == nullptr), in order; one call for all rows
// where no set has trained tensors in the place of the base's.
template <class F>
void for_each_dense(const Batch& batch, const Pass& pass, const F& f) {
  bool any = false;
  for (const AdapterSet* set : pass.adapters) any = any || set->dense != nullptr;
  if (!any) return f(0, batch.rows(), nullptr);
  int64_t next = 0;
  for (const AdapterRows& range : batch.adapter_rows) {
    if (range.start < next) throw Error(ErrorKind::internal, "adapter rows overlap or are out of order");
    if (range.start > next) f(next, range.start - next, nullptr);
    f(range.start, range.length, pass.adapters.at(static_cast<size_t>(range.set))->dense.get());
    next = range.start + range.length;
  }
  if (next < batch.rows()) f(next, batch.rows() - next, nullptr);
}

// The vector as the set has it, or the base's.
Tensor vector_of(const DenseSet* set, const Vector& base);
// Where its gradient is added up; data == nullptr: it is not trained.
Tensor gradient_of(const DenseSet* set, const Vector& base);
Tensor table_of(const DenseSet* set, const Table& base);
Tensor gradient_of(const DenseSet* set, const Table& base);

// y = W x + adapters(x) over their row ranges
void linear_forward(const Step& s, const Tensor& y, const Tensor& x, const Site& site);
// d_x = d_y W + adapter part; nothing of d_x is computed when its data is nullptr
void linear_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Site& site);
// The gradient of the residual stream in the type that products take; itself, or a copy in scratch.
Tensor as_operand(const Step& s, const Tensor& d);
// Rows of one type, as they are.
void copy_rows(const Tensor& to, const Tensor& from);
// While decoding: the batch's rows of k and v into the cache, s.carried[0] and [1].
void store_keys_and_values(const Step& s, const Tensor& k, const Tensor& v);

// dW += dYᵀ X and db += Σ dY of the parts that are trained
void dense_site_gradients(Context& ctx, const DenseSite& site, const Tensor& d_y, const Tensor& x);
// Without training, adapters that are plain low-rank products run together: a row then has the same bits in a range of any length, and a
// batch of many adapters costs little more than one of one.
std::optional<LowRank> run_by_rows(const Adapter& adapter, bool training);

}  // namespace loraine
