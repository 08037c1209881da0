// Sums in a fixed order: along a row in double, down the columns row by row.
#include "loraine/kernels/optimizers/factored.h"

#include <cmath>

#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/optimizers/blocks-inl.h"
#include "loraine/kernels/training/adamw.h"

namespace loraine {
namespace {

struct Shares {
  float scale, keep, rest, epsilon;
};

LORAINE_CLONES double row_squares(const float* grad, int64_t n, Shares s) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    sum += static_cast<double>(g * g + s.epsilon);
  }
  return sum;
}

LORAINE_CLONES void add_squares(double* sums, const float* grad, int64_t n, Shares s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    sums[i] += static_cast<double>(g * g + s.epsilon);
  }
}

LORAINE_CLONES void factored_row(float* out, const float* grad, const float* col, int64_t n, float row_factor, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = row_factor * (1.0f / __builtin_sqrtf(col[i])) * (grad[i] * scale);
}

LORAINE_CLONES void vector_block(float* out, float* square, const float* grad, int64_t n, Shares s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    square[i] = square[i] * s.keep + s.rest * (g * g + s.epsilon);
    out[i] = (1.0f / __builtin_sqrtf(square[i])) * g;
  }
}

LORAINE_CLONES void apply(float* p, const float* direction, int64_t n, float keep, float rate) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) p[i] = p[i] * keep - rate * direction[i];
}

LORAINE_CLONES void divide(float* x, int64_t n, float by) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] /= by;
}

double root_mean_square(Context& ctx, const Tensor& x) { return std::sqrt(sum_of_squares(ctx, x) / static_cast<double>(x.numel())); }

// Of one matrix, gradient [rows, cols].
void means(const float* grad, int64_t rows, int64_t cols, const Tensor& row, const Tensor& col, Shares s) {
  constexpr int64_t kColumns = 256;
  parallel_for(
      rows,
      [&](int64_t r) {
        const float mean = static_cast<float>(row_squares(grad + r * cols, cols, s) / static_cast<double>(cols));
        row.f32()[r] = row.f32()[r] * s.keep + s.rest * mean;
      },
      row_chunk(cols));
  parallel_for((cols + kColumns - 1) / kColumns, [&](int64_t tile) {
    const int64_t first = tile * kColumns, count = std::min(kColumns, cols - first);
    double sums[kColumns] = {};
    for (int64_t r = 0; r < rows; ++r) add_squares(sums, grad + r * cols + first, count, s);
    for (int64_t i = 0; i < count; ++i)
      col.f32()[first + i] = col.f32()[first + i] * s.keep + s.rest * static_cast<float>(sums[i] / static_cast<double>(rows));
  });
}

}  // namespace

void adafactor_direction(Context& ctx, const Update& u, const Tensor& row, const Tensor& col, const Tensor& square, const Tensor& direction,
                         const Adafactor& options) {
  const int64_t n = u.gradient.numel(), matrices = u.gradient.rank == 3 ? u.gradient.shape[0] : 1,
                rows = u.gradient.rank == 3 ? u.gradient.shape[1] : u.gradient.rows(),
                cols = u.gradient.rank == 3 ? u.gradient.shape[2] : u.gradient.cols();
  check_op(u.gradient.dtype == Dtype::F32 && u.gradient.contiguous() && direction.numel() == n && direction.contiguous(), "adafactor",
           "gradient and direction must be contiguous F32 of one size");
  check_op(square.data ? square.numel() == n : row.numel() == matrices * rows && col.numel() == matrices * cols, "adafactor",
           "a matrix needs means of rows and columns, a vector its squares");
  check_op(u.step >= 1, "adafactor", "step counts from 1");
  const double keep = 1 - std::pow(static_cast<double>(u.step), options.decay_rate);
  const Shares s{u.scale, static_cast<float>(keep), static_cast<float>(1 - keep), static_cast<float>(options.epsilon)};
  dispatch(ctx, "adafactor", [&] {
    if (square.data) {
      over_blocks(std::array<Moment, 1>{Moment{square}}, n, [&](int64_t first, int64_t count, float* const* state) {
        vector_block(direction.f32() + first, state[0], u.gradient.f32() + first, count, s);
      });
    } else {
      for (int64_t m = 0; m < matrices; ++m) {
        const float* grad = u.gradient.f32() + m * rows * cols;
        float* out = direction.f32() + m * rows * cols;
        const Tensor own_row(row.f32() + m * rows, Dtype::F32, {rows}), own_col(col.f32() + m * cols, Dtype::F32, {cols});
        means(grad, rows, cols, own_row, own_col, s);
        double sum = 0;
        for (int64_t r = 0; r < rows; ++r) sum += own_row.f32()[r];
        const float mean = static_cast<float>(sum / static_cast<double>(rows));
        parallel_for(
            rows,
            [&](int64_t r) {
              factored_row(out + r * cols, grad + r * cols, own_col.f32(), cols, 1.0f / std::sqrt(own_row.f32()[r] / mean), u.scale);
            },
            row_chunk(cols));
      }
    }
    const float by = static_cast<float>(std::max(1.0, root_mean_square(ctx, direction) / options.clip));
    if (by != 1.0f)
      over_blocks(std::array<Moment, 0>{}, n,
                  [&](int64_t first, int64_t count, float* const*) { divide(direction.f32() + first, count, by); });
  });
}

void adafactor(Context& ctx, const Update& u, const Tensor& row, const Tensor& col, const Tensor& square, const Tensor& direction,
               const Adafactor& options) {
  check_op(u.value.numel() == u.gradient.numel() && u.value.dtype == Dtype::F32 && u.value.contiguous(), "adafactor",
           "value and gradient must be contiguous F32 of one size");
  adafactor_direction(ctx, u, row, col, square, direction, options);
  double rate = u.rate;
  if (options.scale_by_value) rate *= std::max(options.least_scale, root_mean_square(ctx, u.value));
  over_blocks(std::array<Moment, 0>{}, u.value.numel(), [&](int64_t first, int64_t count, float* const*) {
    apply(u.value.f32() + first, direction.f32() + first, count, static_cast<float>(1 - rate * u.decay), static_cast<float>(rate));
  });
}

}  // namespace loraine
