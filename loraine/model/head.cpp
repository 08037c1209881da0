// The logits of rows and their way back: the base's head or the set's own, and the adapter on it.
#include <algorithm>
#include <cstring>

#include "loraine/kernels/products/low_rank_rows.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/model/model.h"
#include "loraine/model/step.h"

namespace loraine {
namespace {

// The head that a set trains whole, or nullptr.
const DenseSite* own_head(const AdapterSet* set) {
  if (!set || !set->dense || set->dense->sites.back().weight.parts.empty()) return nullptr;
  return &set->dense->sites.back();
}

const Weight& head_weight(const Model& model, const AdapterSet* set) {
  const DenseSite* own = own_head(set);
  return own ? own->weight : model.head.weight;
}

// d_rows[i] += Σ_t d_logits[t, ids[i]] · hidden[t]
void token_logit_gradients(Context& ctx, const TokenRows& tokens, const Tensor& d_logits, const Tensor& hidden, Arena& scratch) {
  const size_t mark = scratch.mark(), size = size_of(d_logits.dtype);
  const Tensor columns = scratch.take(d_logits.dtype, {d_logits.rows(), static_cast<int64_t>(tokens.ids.size())});
  for (int64_t t = 0; t < d_logits.rows(); ++t)
    for (size_t i = 0; i < tokens.ids.size(); ++i)
      std::memcpy(static_cast<char*>(columns.row_range(t, 1).data) + i * size,
                  static_cast<const char*>(d_logits.row_range(t, 1).data) + static_cast<size_t>(tokens.ids[i]) * size, size);
  matmul_tn(ctx, tokens.rows.gradient, columns, hidden, 1, 1);
  scratch.release(mark);
}

}  // namespace

bool changes_head(const AdapterSet* set) { return set && (set->head() || own_head(set)); }

size_t head_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) {
  if (!set) return 0;
  size_t bytes = 0;
  for (const TokenRows& t : set->token_rows)
    if (t.of_head && t.rows.gradient.data) bytes = std::max(bytes, static_cast<size_t>(rows) * t.ids.size() * sizeof(float) + 64);
  if (!set->head()) return bytes;
  const int64_t width = set->head()->saved_width();  // its columns, their gradient, and the input once more (dropout)
  return bytes + static_cast<size_t>(rows * (2 * width + model.config.hidden_size)) * sizeof(float) + 64 * 4;
}

void head_logits(Context& ctx, const Model& model, const Tensor& logits, const Tensor& hidden, const AdapterSet* set, Arena& scratch,
                 const Tensor& saved, bool training) {
  const Weight& weight = head_weight(model, set);
  if (!model.read_once || &weight != &model.head.weight || model.config.head_bias) {
    multiply_weight(ctx, logits, weight, hidden);
  } else {  // The largest matrix of all, by pieces of its rows; the head has neither parts nor bias.
    constexpr int64_t kPieceRows = 16384;
    const WeightPart& head = weight.parts.at(0);
    for (int64_t first = 0; first < head.weight.rows(); first += kPieceRows) {
      const Tensor piece = head.weight.row_range(first, std::min(kPieceRows, head.weight.rows() - first));
      matmul_nt(ctx, logits.col_range(first, piece.rows()), hidden, piece);
      model.release(piece, head.owned);
    }
  }
  if (set && set->head()) {
    const size_t mark = scratch.mark();
    const Tensor columns = saved.data ? saved : scratch.take(hidden.dtype, {hidden.rows(), set->head()->saved_width()});
    if (const auto low_rank = run_by_rows(*set->head(), training)) {
      const LowRankRange all{*low_rank, 0, hidden.rows()};
      low_rank_rows(ctx, logits, hidden, columns, std::span(&all, 1));
    } else {
      set->head()->forward(ctx, logits, hidden, columns, training, scratch);
    }
    scratch.release(mark);
  }
  if (model.config.logit_scale != 1) scale(ctx, logits, logits, model.config.logit_scale);
  if (model.config.logit_softcap != 0) soft_cap(ctx, logits, logits, model.config.logit_softcap);
}

void logits_backward(Context& ctx, const Model& model, const Tensor& d_logits, const Tensor& capped) {
  if (model.config.logit_softcap != 0) soft_cap_backward(ctx, d_logits, capped, model.config.logit_softcap);
  if (model.config.logit_scale != 1) scale(ctx, d_logits, d_logits, model.config.logit_scale);
}

void head_backward(Context& ctx, const Model& model, const AdapterSet* trained, const Tensor& d_hidden, const Tensor& d_logits,
                   const Tensor& hidden, const Tensor& saved, Arena& scratch) {
  multiply_weight_backward(ctx, d_hidden, head_weight(model, trained), d_logits, false);
  if (const DenseSite* own = own_head(trained)) dense_site_gradients(ctx, *own, d_logits, hidden);
  if (trained)
    for (const TokenRows& t : trained->token_rows)
      if (t.of_head && t.rows.gradient.data) token_logit_gradients(ctx, t, d_logits, hidden, scratch);
  if (trained && trained->head()) trained->head()->backward(ctx, d_hidden, d_logits, hidden, saved, scratch);
}

}  // namespace loraine
