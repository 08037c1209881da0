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

void weigh_rows(Context& ctx, const Tensor& out, const Tensor& rows, const ExpertOrder& order, const Tensor& weights) {
  const char* op = "weigh_rows";
  check_activation(op, "rows", rows, order.rows(), rows.cols());
  check_activation(op, "out", out, order.rows(), rows.cols());
  check_weights(op, weights, order);
  dispatch(ctx, op, [&] {
    const int64_t F = rows.cols();
    for_tokens(order, F, [&](int64_t t) {
      float* room = row_room(2 * F);
      for (int64_t k = 0; k < order.places.cols(); ++k) {
        const int64_t place = places_of(order, t)[k];
        float* to = begin_row(out, place, room);
        multiply_row(to, read_row(rows, place, room + F), row_of(weights, t)[k], F);
        finish_row(out, place, to);
      }
    });
  });
}

void weigh_rows_backward(Context& ctx, const Tensor& d_rows, const Tensor& d_weights, const Tensor& d_out, const Tensor& rows,
                         const ExpertOrder& order, const Tensor& weights) {
  const char* op = "weigh_rows_backward";
  for (const Tensor& t : {d_rows, d_out, rows}) check_activation(op, "a tensor of experts' rows", t, order.rows(), rows.cols());
  check_weights(op, weights, order);
  check_weights(op, d_weights, order);
  dispatch(ctx, op, [&] {
    const int64_t F = rows.cols();
    for_tokens(order, F, [&](int64_t t) {
      float* room = row_room(2 * F);
      for (int64_t k = 0; k < order.places.cols(); ++k) {
        const int64_t place = places_of(order, t)[k];
        const float* d = read_row(d_out, place, room);
        row_dots(row_of(d_weights, t) + k, rows.row_range(place, 1), d);
        float* to = begin_row(d_rows, place, room + F);
        multiply_row(to, d, row_of(weights, t)[k], F);
        finish_row(d_rows, place, to);
      }
    });
  });
}

namespace {

void check_biases(const char* op, const Tensor& y, const Tensor& biases, const Tensor& chosen, const Tensor& weights) {
  check_activation(op, "the tensor of tokens", y, chosen.rows(), y.cols());
  check_f32(op, "biases", biases, biases.rows(), y.cols());
  check_indices(op, "chosen", chosen, chosen.rows(), chosen.cols());
  check_f32(op, "the tensor of weights", weights, chosen.rows(), chosen.cols());
}

}  // namespace

void add_weighted_biases(Context& ctx, const Tensor& y, const Tensor& biases, const Tensor& chosen, const Tensor& weights) {
  const char* op = "add_weighted_biases";
  check_biases(op, y, biases, chosen, weights);
  const int64_t C = y.cols(), K = chosen.cols();
  dispatch(ctx, op, [&] {
    parallel_for(
        y.rows(),
        [&](int64_t t) {
          float *room = row_room(C), *out = begin_row(y, t, room);
          read_row(y, t, out);
          for (int64_t k = 0; k < K; ++k) add_multiple(out, row_of(biases, indices(chosen)[t * K + k]), row_of(weights, t)[k], C);
          finish_row(y, t, out);
        },
        row_chunk(C * K));
  });
}

void add_weighted_biases_backward(Context& ctx, const Tensor& d_weights, const Tensor& d_y, const Tensor& biases, const Tensor& chosen) {
  const char* op = "add_weighted_biases_backward";
  check_biases(op, d_y, biases, chosen, d_weights);
  const int64_t C = d_y.cols(), K = chosen.cols();
  dispatch(ctx, op, [&] {
    parallel_for(
        d_y.rows(),
        [&](int64_t t) {
          const float* d = read_row(d_y, t, row_room(C));
          for (int64_t k = 0; k < K; ++k) {
            float sum = 0;
            row_dots(&sum, biases.row_range(indices(chosen)[t * K + k], 1), d);
            row_of(d_weights, t)[k] += sum;
          }
        },
        row_chunk(C * K));
  });
}

}  // namespace loraine
