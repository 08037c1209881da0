// The sums are made by blocks of tokens fixed by their number, each in order, and put together in order.
#include "loraine/kernels/experts/balance.h"

#include <algorithm>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/experts/best.h"
#include "loraine/kernels/experts/indices.h"

namespace loraine {
namespace {

constexpr int64_t kBlock = 64;  // tokens

// sums [2, E] = choices, then probabilities of the tokens [first, first + count)
void sum_block(double* sums, const Tensor& logits, int64_t per_token, int64_t first, int64_t count) {
  const int64_t E = logits.cols();
  float *p = row_room(E + 2 * per_token), *values = p + E;
  auto* chosen = reinterpret_cast<int32_t*>(values + per_token);
  std::fill_n(sums, 2 * E, 0.0);
  for (int64_t t = first; t < first + count; ++t) {
    const float* row = logits.f32() + t * logits.row_stride;
    Best best(chosen, values, per_token);
    for (int64_t e = 0; e < E; ++e) best.offer(static_cast<int32_t>(e), row[e]);
    for (int64_t k = 0; k < per_token; ++k) ++sums[chosen[k]];
    softmax_row(p, row, E);
    for (int64_t e = 0; e < E; ++e) sums[E + e] += static_cast<double>(p[e]);
  }
}

}  // namespace

void BalanceSums::clear() {
  std::fill(choices.begin(), choices.end(), 0.0);
  std::fill(probabilities.begin(), probabilities.end(), 0.0);
  tokens = 0;
}

void add_balance(Context& ctx, BalanceSums& sums, const Tensor& logits, int64_t per_token) {
  const char* op = "add_balance";
  const int64_t T = logits.rows(), E = sums.experts();
  check_f32(op, "logits", logits, T, E);
  check_op(per_token > 0 && per_token <= E, op, "a token must choose at least one expert and no more than there are");
  dispatch(ctx, op, [&] {
    thread_local Buffer room;
    const int64_t blocks = (T + kBlock - 1) / kBlock;
    const size_t bytes = static_cast<size_t>(blocks * 2 * E) * sizeof(double);
    if (room.bytes() < bytes) room = Buffer(bytes);
    auto* parts = static_cast<double*>(room.data());
    parallel_for(blocks, [&](int64_t b) { sum_block(parts + b * 2 * E, logits, per_token, b * kBlock, std::min(kBlock, T - b * kBlock)); });
    for (int64_t b = 0; b < blocks; ++b)
      for (int64_t e = 0; e < E; ++e) {
        sums.choices[static_cast<size_t>(e)] += parts[b * 2 * E + e];
        sums.probabilities[static_cast<size_t>(e)] += parts[b * 2 * E + E + e];
      }
    sums.tokens += T;
  });
}

double balance_loss(const BalanceSums& sums) {
  if (sums.tokens == 0) return 0;
  double sum = 0;
  for (size_t e = 0; e < sums.choices.size(); ++e) sum += sums.choices[e] * sums.probabilities[e];
  const auto tokens = static_cast<double>(sums.tokens);
  return static_cast<double>(sums.experts()) * sum / tokens / tokens;
}

void balance_backward(Context& ctx, const Tensor& d_logits, const Tensor& logits, const BalanceSums& sums, double factor) {
  const char* op = "balance_backward";
  const int64_t T = logits.rows(), E = sums.experts();
  check_f32(op, "logits", logits, T, E);
  check_f32(op, "d_logits", d_logits, T, E);
  if (sums.tokens == 0) return;
  const auto tokens = static_cast<double>(sums.tokens);
  const double by = factor * static_cast<double>(E) / tokens / tokens;
  dispatch(ctx, op, [&] {
    parallel_for(
        T,
        [&](int64_t t) {
          float *p = row_room(E), *d = d_logits.f32() + t * d_logits.row_stride;
          softmax_row(p, logits.f32() + t * logits.row_stride, E);
          double mean = 0;
          for (int64_t e = 0; e < E; ++e) mean += sums.choices[static_cast<size_t>(e)] * static_cast<double>(p[e]);
          for (int64_t e = 0; e < E; ++e)
            d[e] += static_cast<float>(by * static_cast<double>(p[e]) * (sums.choices[static_cast<size_t>(e)] - mean));
        },
        row_chunk(E));
  });
}

}  // namespace loraine
