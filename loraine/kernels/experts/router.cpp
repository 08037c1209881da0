// Checks of the router, and its rows on the CPU.
#include "loraine/kernels/experts/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/experts/best.h"
#include "loraine/kernels/experts/indices.h"

namespace loraine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// p = the scores of all experts
void score_row(float* p, const float* logits, const RouterShape& shape) {
  const int64_t E = shape.experts;
  if (shape.scores == RouterScores::softmax) return softmax_row(p, logits, E);
  std::copy_n(logits, E, p);
  exp_row(p, E, -1, 0);
  for (int64_t e = 0; e < E; ++e) p[e] = 1 / (1 + p[e]);
}

// Floats and whole numbers that a row needs beside its E scores.
int64_t room_of(const RouterShape& shape) { return 2 * shape.experts + 2 * shape.groups + 2 * shape.per_token; }

// The best experts by `value`: of all groups, or of those kept.
void choose(int32_t* chosen, const float* value, const RouterShape& shape, float* room) {
  const int64_t size = shape.experts / shape.groups;
  float *best_values = room, *group_values = room + shape.per_token;
  auto* kept = reinterpret_cast<int32_t*>(group_values + shape.groups);
  Best best(chosen, best_values, shape.per_token);
  if (shape.groups == shape.kept_groups) {
    for (int64_t e = 0; e < shape.experts; ++e) best.offer(static_cast<int32_t>(e), value[e]);
    return;
  }
  Best groups(kept, group_values, shape.kept_groups);
  for (int64_t g = 0; g < shape.groups; ++g) {
    float first = kNever, second = kNever;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      if (value[e] > first) second = first, first = value[e];
      else if (value[e] > second) second = value[e];
    }
    groups.offer(static_cast<int32_t>(g), shape.group_value == GroupValue::best ? first : first + second);
  }
  std::sort(kept, kept + shape.kept_groups);
  for (int64_t i = 0; i < shape.kept_groups; ++i)
    for (int64_t e = kept[i] * size; e < (kept[i] + 1) * size; ++e) best.offer(static_cast<int32_t>(e), value[e]);
}

// Logits order experts as their scores do, and tell apart what a saturated score does not.
bool chosen_by_logits(const RouterShape& shape, const RouterVectors& vectors) {
  return !vectors.correction && (shape.groups == shape.kept_groups || shape.group_value == GroupValue::best);
}

float normaliser(float sum, const RouterShape& shape) {
  return shape.floor_is == NormaliserFloor::added ? sum + shape.normaliser_floor : std::max(sum, shape.normaliser_floor);
}

// p = softmax over the experts that the sparse mixer's choice k looks at, 0 for the others. Returns the expert of the largest logit among
// those not among the k chosen before.
int32_t mixer_row(float* p, const float* logits, const RouterShape& shape, const int32_t* chosen, int64_t k) {
  const int64_t E = shape.experts;
  auto taken = [&](int64_t e) { return std::find(chosen, chosen + k, static_cast<int32_t>(e)) != chosen + k; };
  int64_t first = -1;
  for (int64_t e = 0; e < E; ++e)
    if (!taken(e) && (first < 0 || logits[e] > logits[first])) first = e;
  const float m = logits[first];
  for (int64_t e = 0; e < E; ++e) {
    const bool out = taken(e) || (m - logits[e]) / std::max(std::abs(logits[e]), m) > 2 * shape.jitter;
    p[e] = out ? kNever : logits[e];
  }
  scale_row(p, E, 1 / exp_row(p, E, 1, m));
  for (int64_t e = 0; e < E; ++e)
    if (taken(e)) p[e] = 0;
  return static_cast<int32_t>(first);
}

void route_row(int32_t* chosen, float* weights, const float* logits, const RouterShape& shape, const RouterVectors& vectors) {
  const int64_t E = shape.experts, K = shape.per_token;
  float *p = row_room(room_of(shape)), *value = p + E, *room = value + E;
  if (shape.scores == RouterScores::sparse_mixer) {
    for (int64_t k = 0; k < K; ++k) {
      chosen[k] = mixer_row(p, logits, shape, chosen, k);
      weights[k] = p[chosen[k]];
    }
  } else if (shape.scores == RouterScores::chosen_softmax) {
    choose(chosen, logits, shape, room);
    for (int64_t k = 0; k < K; ++k) p[k] = logits[chosen[k]];
    softmax_row(weights, p, K);
  } else {
    score_row(p, logits, shape);
    if (chosen_by_logits(shape, vectors)) {
      choose(chosen, logits, shape, room);
    } else {
      for (int64_t e = 0; e < E; ++e) value[e] = p[e] + (vectors.correction ? vectors.correction[e] : 0);
      choose(chosen, value, shape, room);
    }
    for (int64_t k = 0; k < K; ++k) weights[k] = p[chosen[k]];
  }
  float by = shape.scale;
  if (shape.normalise) {
    float sum = 0;
    for (int64_t k = 0; k < K; ++k) sum += weights[k];
    by /= normaliser(sum, shape);
  }
  for (int64_t k = 0; k < K; ++k) weights[k] *= by * (vectors.expert_scale ? vectors.expert_scale[chosen[k]] : 1);
}

// g [K]: the gradient of the scores of the chosen, from that of their weights.
void scores_gradient(float* g, const float* d_weights, const float* score, const int32_t* chosen, const RouterShape& shape,
                     const RouterVectors& vectors) {
  const int64_t K = shape.per_token;
  for (int64_t k = 0; k < K; ++k) g[k] = d_weights[k] * shape.scale * (vectors.expert_scale ? vectors.expert_scale[chosen[k]] : 1);
  if (!shape.normalise) return;
  float sum = 0, dot = 0;
  for (int64_t k = 0; k < K; ++k) sum += score[k], dot += g[k] * score[k];
  const float by = 1 / normaliser(sum, shape);
  const bool held = shape.floor_is == NormaliserFloor::least && sum < shape.normaliser_floor;  // the divisor is a constant
  for (int64_t k = 0; k < K; ++k) g[k] = (held ? g[k] : g[k] - dot * by) * by;
}

void route_backward_row(float* d_logits, const float* d_weights, const int32_t* chosen, const float* logits, const RouterShape& shape,
                        const RouterVectors& vectors) {
  const int64_t E = shape.experts, K = shape.per_token;
  float *p = row_room(room_of(shape)), *score = p + E, *g = score + K;
  std::fill_n(d_logits, E, 0.0f);
  if (shape.scores == RouterScores::sparse_mixer) {
    scores_gradient(g, d_weights, nullptr, chosen, shape, vectors);
    for (int64_t k = 0; k < K; ++k) {
      mixer_row(p, logits, shape, chosen, k);
      const float by = g[k] * p[chosen[k]];
      for (int64_t e = 0; e < E; ++e) d_logits[e] -= by * p[e];
      d_logits[chosen[k]] += by;
    }
    return;
  }
  if (shape.scores == RouterScores::chosen_softmax) {
    for (int64_t k = 0; k < K; ++k) p[k] = logits[chosen[k]];
    softmax_row(score, p, K);
  } else {
    score_row(p, logits, shape);
    for (int64_t k = 0; k < K; ++k) score[k] = p[chosen[k]];
  }
  scores_gradient(g, d_weights, score, chosen, shape, vectors);
  if (shape.scores == RouterScores::sigmoid) {
    for (int64_t k = 0; k < K; ++k) d_logits[chosen[k]] = g[k] * score[k] * (1 - score[k]);
    return;
  }
  float dot = 0;
  for (int64_t k = 0; k < K; ++k) dot += g[k] * score[k];
  if (shape.scores == RouterScores::softmax)
    for (int64_t e = 0; e < E; ++e) d_logits[e] = -dot * p[e];
  for (int64_t k = 0; k < K; ++k) {
    const float own = shape.scores == RouterScores::softmax ? g[k] : g[k] - dot;
    d_logits[chosen[k]] += own * score[k];
  }
}

void check_router(const char* op, const RouterShape& shape, const RouterVectors& vectors) {
  const bool over_all = shape.scores == RouterScores::softmax || shape.scores == RouterScores::sigmoid;
  check_op(shape.per_token > 0 && shape.per_token <= shape.experts, op,
           "a token must choose at least one expert and no more than there are");
  check_op(shape.groups > 0 && shape.experts % shape.groups == 0, op, "the experts cannot be split into groups of one size");
  check_op(
      shape.kept_groups > 0 && shape.kept_groups <= shape.groups && shape.kept_groups * (shape.experts / shape.groups) >= shape.per_token,
      op, "the groups kept hold fewer experts than a token chooses");
  check_op(over_all || (shape.groups == shape.kept_groups && !vectors.correction && !shape.normalise), op,
           "groups, a correction and a division by the sum are for softmax and sigmoid over all experts");
}

}  // namespace

void route(Context& ctx, const Tensor& chosen, const Tensor& weights, const Tensor& logits, const RouterShape& shape,
           const RouterVectors& vectors) {
  const char* op = "route";
  const int64_t T = logits.rows(), K = shape.per_token;
  check_router(op, shape, vectors);
  check_f32(op, "logits", logits, T, shape.experts);
  check_f32(op, "weights", weights, T, K);
  check_indices(op, "chosen", chosen, T, K);
  dispatch(ctx, op, [&] {
    parallel_for(
        T,
        [&](int64_t t) {
          route_row(indices(chosen) + t * K, weights.f32() + t * weights.row_stride, logits.f32() + t * logits.row_stride, shape, vectors);
        },
        row_chunk(shape.experts));
  });
}

void route_backward(Context& ctx, const Tensor& d_logits, const Tensor& d_weights, const Tensor& chosen, const Tensor& logits,
                    const RouterShape& shape, const RouterVectors& vectors) {
  const char* op = "route_backward";
  const int64_t T = logits.rows(), K = shape.per_token;
  check_router(op, shape, vectors);
  check_f32(op, "logits", logits, T, shape.experts);
  check_f32(op, "d_logits", d_logits, T, shape.experts);
  check_f32(op, "d_weights", d_weights, T, K);
  check_indices(op, "chosen", chosen, T, K);
  dispatch(ctx, op, [&] {
    parallel_for(
        T,
        [&](int64_t t) {
          route_backward_row(d_logits.f32() + t * d_logits.row_stride, d_weights.f32() + t * d_weights.row_stride, indices(chosen) + t * K,
                             logits.f32() + t * logits.row_stride, shape, vectors);
        },
        row_chunk(shape.experts));
  });
}

void expert_scale_gradient(Context& ctx, const Tensor& d_expert_scale, const Tensor& d_weights, const Tensor& chosen, const Tensor& logits,
                           const RouterShape& shape, const RouterVectors& vectors) {
  const char* op = "expert_scale_gradient";
  const int64_t T = logits.rows(), K = shape.per_token;
  check_router(op, shape, vectors);
  check_f32(op, "logits", logits, T, shape.experts);
  check_f32(op, "d_weights", d_weights, T, K);
  check_indices(op, "chosen", chosen, T, K);
  check_op(d_expert_scale.dtype == Dtype::F32 && d_expert_scale.numel() == shape.experts, op, "one number per expert is expected");
  dispatch(ctx, op, [&] {
    std::vector<int32_t> again(static_cast<size_t>(K));
    std::vector<float> weights(static_cast<size_t>(K));
    for (int64_t t = 0; t < T; ++t) {
      route_row(again.data(), weights.data(), logits.f32() + t * logits.row_stride, shape, {vectors.correction, nullptr});
      const int32_t* of_row = indices(chosen) + t * K;
      for (int64_t k = 0; k < K; ++k)
        d_expert_scale.f32()[of_row[k]] += d_weights.f32()[t * d_weights.row_stride + k] * weights[static_cast<size_t>(k)];
    }
  });
}

}  // namespace loraine
