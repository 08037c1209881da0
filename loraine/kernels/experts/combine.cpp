// Row by row on the CPU; a token's choices are one item of the loop.
#include "loraine/kernels/experts/combine.h"

#include <algorithm>

#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/experts/indices.h"

namespace loraine {
namespace {

LORAINE_CLONES void multiply_row(float* y, const float* x, float by, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = by * x[c];
}
LORAINE_CLONES void add_multiple(float* y, const float* x, float by, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] += by * x[c];
}

float* row_of(const Tensor& t, int64_t i) { return t.f32() + i * t.row_stride; }

// Calls body(token) for all, some at a time on a thread.
template <class Body>
void for_tokens(const ExpertOrder& order, int64_t C, Body&& body) {
  parallel_for(order.places.rows(), body, row_chunk(C * order.places.cols()));
}
const int32_t* places_of(const ExpertOrder& order, int64_t t) { return indices(order.places) + t * order.places.cols(); }

void spread_row(const Tensor& rows, const float* x, const ExpertOrder& order, int64_t t, const float* weights, float* room) {
  const int64_t C = rows.cols();
  for (int64_t k = 0; k < order.places.cols(); ++k) {
    const int64_t place = places_of(order, t)[k];
    if (!weights) {
      write_row(rows, place, x);
      continue;
    }
    float* out = begin_row(rows, place, room);
    multiply_row(out, x, weights[k], C);
    finish_row(rows, place, out);
  }
}

void sum_row(const Tensor& y, const Tensor& rows, const ExpertOrder& order, int64_t t, const float* weights, bool accumulate) {
  const int64_t C = y.cols();
  float *room = row_room(2 * C), *out = begin_row(y, t, room);
  if (accumulate) read_row(y, t, out);
  else std::fill_n(out, C, 0.0f);
  for (int64_t k = 0; k < order.places.cols(); ++k)
    add_multiple(out, read_row(rows, places_of(order, t)[k], room + C), weights ? weights[k] : 1, C);
  finish_row(y, t, out);
}

// out[k] = x · rows[place(t, k)]
void dots(float* out, const float* x, const Tensor& rows, const ExpertOrder& order, int64_t t) {
  for (int64_t k = 0; k < order.places.cols(); ++k) row_dots(out + k, rows.row_range(places_of(order, t)[k], 1), x);
}

void check(const char* op, const Tensor& tokens, const Tensor& rows, const ExpertOrder& order) {
  check_activation(op, "the tensor of tokens", tokens, order.places.rows(), tokens.cols());
  check_activation(op, "the tensor of experts' rows", rows, order.rows(), tokens.cols());
}
void check_weights(const char* op, const Tensor& weights, const ExpertOrder& order) {
  check_f32(op, "the tensor of weights", weights, order.places.rows(), order.places.cols());
}

}  // namespace

void gather_tokens(Context& ctx, const Tensor& rows, const Tensor& x, const ExpertOrder& order, const Tensor* weights) {
  const char* op = "gather_tokens";
  check(op, x, rows, order);
  if (weights) check_weights(op, *weights, order);
  dispatch(ctx, op, [&] {
    const int64_t C = x.cols();
    for_tokens(order, C, [&](int64_t t) {
      float* room = row_room(2 * C);
      spread_row(rows, read_row(x, t, room), order, t, weights ? row_of(*weights, t) : nullptr, room + C);
    });
  });
}

void gather_tokens_backward(Context& ctx, const Tensor& d_x, const Tensor& d_rows, const ExpertOrder& order, bool accumulate) {
  combine_experts(ctx, d_x, d_rows, order, nullptr, accumulate);
}

void gather_tokens_backward(Context& ctx, const Tensor& d_x, const Tensor& d_weights, const Tensor& d_rows, const Tensor& x,
                            const ExpertOrder& order, const Tensor& weights, bool accumulate) {
  const char* op = "gather_tokens_backward";
  check(op, d_x, d_rows, order);
  check(op, x, d_rows, order);
  check_weights(op, weights, order);
  check_weights(op, d_weights, order);
  dispatch(ctx, op, [&] {
    for_tokens(order, x.cols(), [&](int64_t t) {
      dots(row_of(d_weights, t), read_row(x, t, row_room(x.cols())), d_rows, order, t);
      sum_row(d_x, d_rows, order, t, row_of(weights, t), accumulate);
    });
  });
}

void combine_experts(Context& ctx, const Tensor& y, const Tensor& rows, const ExpertOrder& order, const Tensor* weights, bool accumulate) {
  const char* op = "combine_experts";
  check(op, y, rows, order);
  if (weights) check_weights(op, *weights, order);
  dispatch(ctx, op, [&] {
    for_tokens(order, y.cols(), [&](int64_t t) { sum_row(y, rows, order, t, weights ? row_of(*weights, t) : nullptr, accumulate); });
  });
}

void combine_experts_backward(Context& ctx, const Tensor& d_rows, const Tensor& d_weights, const Tensor& d_y, const Tensor& rows,
                              const ExpertOrder& order, const Tensor& weights) {
  const char* op = "combine_experts_backward";
  check(op, d_y, rows, order);
  check(op, d_y, d_rows, order);
  check_weights(op, weights, order);
  check_weights(op, d_weights, order);
  dispatch(ctx, op, [&] {
    const int64_t C = d_y.cols();
    for_tokens(order, C, [&](int64_t t) {
      float* room = row_room(2 * C);
      const float* row = read_row(d_y, t, room);
      dots(row_of(d_weights, t), row, rows, order, t);
      spread_row(d_rows, row, order, t, row_of(weights, t), room + C);
    });
  });
}

}  // namespace loraine
