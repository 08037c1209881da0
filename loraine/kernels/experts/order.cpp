// A counting sort on one thread: the choices of a batch are few beside what their experts compute.
#include "loraine/kernels/experts/order.h"

#include <algorithm>

#include "loraine/kernels/experts/indices.h"

namespace loraine {

ExpertOrder take_expert_order(Arena& arena, int64_t T, int64_t K, int64_t E) {
  return {arena.take(Dtype::I32, {E + 1}), arena.take(Dtype::I32, {T * K}), arena.take(Dtype::I32, {T, K})};
}

void order_by_expert(Context& ctx, const ExpertOrder& order, const Tensor& chosen) {
  const char* op = "order_by_expert";
  const int64_t T = chosen.rows(), K = chosen.cols(), E = order.experts();
  check_indices(op, "chosen", chosen, T, K);
  check_indices(op, "offsets", order.offsets, E + 1, 1);
  check_indices(op, "tokens", order.tokens, T * K, 1);
  check_indices(op, "places", order.places, T, K);
  dispatch(ctx, op, [&] {
    const int32_t* expert = indices(chosen);
    int32_t *offsets = indices(order.offsets), *tokens = indices(order.tokens), *places = indices(order.places);
    std::fill_n(offsets, E + 1, 0);
    for (int64_t i = 0; i < T * K; ++i) {
      check_op(expert[i] >= 0 && expert[i] < E, op, "a choice is none of the experts");
      ++offsets[expert[i] + 1];
    }
    for (int64_t e = 0; e < E; ++e) offsets[e + 1] += offsets[e];
    for (int64_t i = 0; i < T * K; ++i) {  // offsets[e] runs through the rows of e, to where those of e + 1 begin
      places[i] = offsets[expert[i]]++;
      tokens[places[i]] = static_cast<int32_t>(i / K);
    }
    for (int64_t e = E; e > 0; --e) offsets[e] = offsets[e - 1];
    offsets[0] = 0;
  });
}

}  // namespace loraine
