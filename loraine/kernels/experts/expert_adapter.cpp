// The forward is the kernel of many adapters, each expert one of them; the backward is grouped products.
#include "loraine/kernels/experts/expert_adapter.h"

#include <algorithm>
#include <vector>

#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/experts/indices.h"
#include "loraine/kernels/products/low_rank_rows.h"

namespace loraine {
namespace {

void check_factors(const char* op, const ExpertFactors& factors, int64_t out, int64_t r, int64_t in, int64_t experts) {
  auto is = [&](const Tensor& t, int64_t rows, int64_t cols) {
    return t.rank == 3 && t.dtype == Dtype::F32 && t.contiguous() && t.shape[0] == experts && t.shape[1] == rows && t.shape[2] == cols;
  };
  if (is(factors.down, r, in) && is(factors.up, out, r)) return;
  throw Error(ErrorKind::internal, fmt::format("{}: the factors are {} and {}, expected F32 [{}, {}, {}] and [{}, {}, {}]", op,
                                               factors.down.shape_text(), factors.up.shape_text(), experts, r, in, experts, out, r));
}

// The matrices of all experts, in room of this thread until the next call.
std::span<const Tensor> matrices(const Tensor& all) {
  thread_local std::vector<Tensor> views;
  views.clear();
  for (int64_t e = 0; e < all.rows(); ++e) views.push_back(expert_matrix(all, e));
  return views;
}

// Calls copy(element of down or up, element of A or B) for all of them.
template <class Copy>
void for_pairs(const Tensor& a, const Tensor& b, const ExpertFactors& factors, bool swapped, Copy&& copy) {
  const char* op = "expert_factors";
  const int64_t E = factors.experts(), r = factors.rank(), in = factors.down.shape[2], out = factors.up.shape[1];
  check_factors(op, factors, out, r, in, E);
  check_f32(op, "A", a, E * r, swapped ? out : in);
  check_f32(op, "B", b, swapped ? in : out, r * E);
  for (int64_t e = 0; e < E; ++e)
    for (int64_t k = 0; k < r; ++k) {
      float *a_row = a.f32() + (e * r + k) * a.row_stride, *b_column = b.f32() + k * E + e;
      float *down = factors.down.f32() + (e * r + k) * in, *up = factors.up.f32() + e * out * r + k;
      for (int64_t i = 0; i < in; ++i) copy(down[i], swapped ? b_column[i * b.row_stride] : a_row[i]);
      for (int64_t o = 0; o < out; ++o) copy(up[o * r], swapped ? a_row[o] : b_column[o * b.row_stride]);
    }
}

}  // namespace

void expert_adapter(Context& ctx, const Tensor& y, const Tensor& saved, const Tensor& x, const ExpertFactors& factors,
                    const ExpertOrder& order) {
  const ExpertAdapterTokens all{&factors, 0, order.places.rows()};
  expert_adapters(ctx, y, saved, x, std::span(&all, 1), order);
}

void expert_adapters(Context& ctx, const Tensor& y, const Tensor& saved, const Tensor& x, std::span<const ExpertAdapterTokens> adapters,
                     const ExpertOrder& order) {
  const char* op = "expert_adapters";
  const size_t E = static_cast<size_t>(order.experts());
  thread_local std::vector<LowRankPart> parts;
  thread_local std::vector<LowRankRange> ranges;
  parts.resize(adapters.size() * E);
  ranges.clear();
  const int32_t *offsets = indices(order.offsets), *tokens = indices(order.tokens);
  for (size_t e = 0; e < E; ++e)
    for (size_t a = 0; a < adapters.size(); ++a) {
      const ExpertAdapterTokens& one = adapters[a];
      const ExpertFactors& factors = *one.factors;
      if (e == 0) {
        check_factors(op, factors, y.cols(), factors.rank(), x.cols(), order.experts());
        check_op(factors.rank() <= saved.cols(), op, "saved has too few columns");
      }
      LowRankPart& part = parts[a * E + e];
      part = {expert_matrix(factors.up, static_cast<int64_t>(e)), 0, factors.scale};
      // Tokens ascend within an expert.
      const int32_t *begin = tokens + offsets[e], *end = tokens + offsets[e + 1];
      const int32_t* first = std::lower_bound(begin, end, static_cast<int32_t>(one.first));
      const int64_t count = std::lower_bound(first, end, static_cast<int32_t>(one.first + one.count)) - first;
      if (count > 0) ranges.push_back({{expert_matrix(factors.down, static_cast<int64_t>(e)), std::span(&part, 1)}, first - tokens, count});
    }
  low_rank_rows(ctx, y, x, saved, ranges);
}

void expert_adapter_backward(Context& ctx, const Tensor& d_x, const ExpertFactors& gradients, const Tensor& d_saved, const Tensor& d_y,
                             const Tensor& x, const Tensor& saved, const ExpertFactors& factors, const ExpertOrder& order) {
  const char* op = "expert_adapter_backward";
  check_factors(op, factors, d_y.cols(), saved.cols(), x.cols(), order.experts());
  check_factors(op, gradients, d_y.cols(), saved.cols(), x.cols(), order.experts());
  grouped_nn(ctx, d_saved, d_y, matrices(factors.up), order, factors.scale);
  grouped_tn(ctx, matrices(gradients.up), d_y, saved, order, factors.scale);
  grouped_tn(ctx, matrices(gradients.down), d_saved, x, order);
  if (d_x.data) grouped_nn(ctx, d_x, d_saved, matrices(factors.down), order, 1, 1);
}

void expert_factors_from_peft(const ExpertFactors& factors, const Tensor& a, const Tensor& b, bool swapped) {
  for_pairs(a, b, factors, swapped, [](float& own, float& peft) { own = peft; });
}

void expert_factors_to_peft(const Tensor& a, const Tensor& b, const ExpertFactors& factors, bool swapped) {
  for_pairs(a, b, factors, swapped, [](float& own, float& peft) { peft = own; });
}

}  // namespace loraine
