// Products at the sites of a layer, with what lies over them.
#include "loraine/model/step.h"

#include <cstring>

#include "loraine/kernels/products/low_rank_rows.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/training/dense_gradients.h"

namespace loraine {
namespace {

// Columns of an adapter up to which its products row by row are as fast as those of a library.
constexpr int64_t kMostRowColumns = 256;

const DenseSite* dense_site(const DenseSet* set, const Site& site) { return set ? &set->sites[static_cast<size_t>(site.index)] : nullptr; }

const Weight& site_weight(const DenseSet* set, const Site& site) {
  const DenseSite* dense = dense_site(set, site);
  return dense && !dense->weight.parts.empty() ? dense->weight : site.weight;
}

Tensor adapter_columns(const Step& s, const Site& site) { return s.rows(s.pass.activations->columns_of(site.index)); }

}  // namespace

Tensor vector_of(const DenseSet* set, const Vector& base) {
  const Tensor own = set && base.index >= 0 ? set->vectors[static_cast<size_t>(base.index)].value : Tensor();
  return own.data ? own : base.view();
}
Tensor gradient_of(const DenseSet* set, const Vector& base) {
  return set && base.index >= 0 ? set->vectors[static_cast<size_t>(base.index)].gradient : Tensor();
}

Tensor table_of(const DenseSet* set, const Table& base) {
  const Tensor own = set ? set->tables[static_cast<size_t>(base.index)].value : Tensor();
  return own.data ? own : base.value;
}
Tensor gradient_of(const DenseSet* set, const Table& base) {
  return set ? set->tables[static_cast<size_t>(base.index)].gradient : Tensor();
}

void copy_rows(const Tensor& to, const Tensor& from) {
  for (int64_t i = 0; i < from.rows(); ++i)
    std::memcpy(to.row_range(i, 1).data, from.row_range(i, 1).data, static_cast<size_t>(from.cols()) * size_of(from.dtype));
}

void store_keys_and_values(const Step& s, const Tensor& k, const Tensor& v) {
  for (const Sequence& sequence : s.batch.sequences) {
    const int64_t first = sequence.kv_length - sequence.length;
    for (int64_t done = 0, run = 0; done < sequence.length; done += run) {
      run = sequence.kv_run(first + done, sequence.length - done);
      const int64_t to = sequence.kv_row(first + done), from = sequence.start + done;
      copy_rows(s.carried[0].row_range(to, run), k.row_range(from, run));
      copy_rows(s.carried[1].row_range(to, run), v.row_range(from, run));
    }
  }
}

Tensor as_operand(const Step& s, const Tensor& d) {
  if (d.dtype == s.type()) return d;
  Tensor narrow = s.scratch(s.type(), d.cols());
  convert_rows(s.ctx, narrow, d);
  return narrow;
}

void dense_site_gradients(Context& ctx, const DenseSite& site, const Tensor& d_y, const Tensor& x) {
  int64_t offset = 0;
  for (size_t p = 0; p < site.weight.parts.size(); ++p) {
    const Tensor d_part = d_y.col_range(offset, site.weight.parts[p].weight.rows());
    if (site.d_weight[p].data) matmul_tn(ctx, site.d_weight[p], d_part, x, 1, 1);
    if (site.d_bias[p].data) bias_gradient(ctx, site.d_bias[p], d_part);
    offset += d_part.cols();
  }
}

std::optional<LowRank> run_by_rows(const Adapter& adapter, bool training) {
  return !training && adapter.saved_width() <= kMostRowColumns ? adapter.low_rank() : std::nullopt;
}

namespace {

// The base's product of rows [first, first + count), but for those whose adapter makes it itself.
void base_product(const Step& s, const Tensor& y, const Tensor& x, const Site& site, const DenseSet* set, int64_t first, int64_t count) {
  const int64_t end = first + count;
  const auto multiply = [&](int64_t from, int64_t to) {
    if (from < to) multiply_weight(s.ctx, y.row_range(from, to - from), site_weight(set, site), x.row_range(from, to - from));
  };
  for (const AdapterRows& range : s.batch.adapter_rows) {
    if (range.start < first || range.start >= end) continue;
    const Adapter* adapter = s.pass.adapters.at(static_cast<size_t>(range.set))->at(site.index);
    if (!adapter || !adapter->takes_base()) continue;
    multiply(first, range.start);
    first = range.start + range.length;
  }
  multiply(first, end);
}

}  // namespace

void linear_forward(const Step& s, const Tensor& y, const Tensor& x, const Site& site) {
  if (s.pass.before_site) s.pass.before_site(site.index, x);
  for_each_dense(s.batch, s.pass,
                 [&](int64_t first, int64_t count, const DenseSet* set) { base_product(s, y, x, site, set, first, count); });
  std::vector<LowRankRange> by_rows;
  for (const AdapterRows& range : s.batch.adapter_rows) {
    const Adapter* adapter = s.pass.adapters.at(static_cast<size_t>(range.set))->at(site.index);
    if (!adapter) continue;
    if (const auto low_rank = run_by_rows(*adapter, s.pass.training)) {
      by_rows.push_back({*low_rank, range.start, range.length});
      continue;
    }
    Tensor saved = s.pass.activations->columns_of(site.index);
    saved.shape[1] = adapter->saved_width();
    const Tensor y_here = y.row_range(range.start, range.length), x_here = x.row_range(range.start, range.length),
                 saved_here = saved.row_range(range.start, range.length);
    if (adapter->takes_base())
      adapter->site_forward(s.ctx, site_weight(s.pass.adapters[static_cast<size_t>(range.set)]->dense.get(), site), y_here, x_here,
                            saved_here, s.pass.training, *s.pass.scratch);
    else adapter->forward(s.ctx, y_here, x_here, saved_here, s.pass.training, *s.pass.scratch);
  }
  if (!by_rows.empty()) low_rank_rows(s.ctx, y, x, adapter_columns(s, site), by_rows);
}

void linear_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Site& site) {
  const DenseSet* set = trained.dense.get();
  if (set) dense_site_gradients(s.ctx, *dense_site(set, site), d_y, x);
  const Weight& base = site_weight(set, site);
  if (Adapter* adapter = trained.at(site.index)) {
    Tensor saved = adapter_columns(s, site);
    saved.shape[1] = adapter->saved_width();
    if (trained.invocation.empty()) return adapter->site_backward(s.ctx, base, d_x, d_y, x, saved, *s.pass.scratch);
    if (d_x.data) multiply_weight_backward(s.ctx, d_x, base, d_y, false);
    for (const AdapterRows& r : s.batch.adapter_rows)
      adapter->backward(s.ctx, d_x.data ? d_x.row_range(r.start, r.length) : Tensor(), d_y.row_range(r.start, r.length),
                        x.row_range(r.start, r.length), saved.row_range(r.start, r.length), *s.pass.scratch);
  } else if (d_x.data) {
    multiply_weight_backward(s.ctx, d_x, base, d_y, false);
  }
}

}  // namespace loraine
