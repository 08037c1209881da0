// Sums in double, in a fixed order.
#include "loraine/train/optimizers/rules/apollo.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/optimizers/averaged.h"
#include "loraine/kernels/training/adamw.h"
#include "loraine/train/optimizers/torch_random.h"

namespace loraine {
namespace {

double norm(const float* first, int64_t n, int64_t stride) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(first[i * stride]) * first[i * stride];
  return std::sqrt(sum);
}

}  // namespace

std::vector<StateShape> ApolloRule::states(const Parameter& parameter) const {
  const GradientSpace space(o_.space, parameter.value, o_.singular);
  std::vector<StateShape> states = space.states();
  for (const char* name : {"m", "v"}) add_moment(states, name, space.low_rows(), space.low_cols());
  states.push_back({"norm", Dtype::F32, {1}});
  return states;
}

size_t ApolloRule::scratch_bytes(const Parameter& parameter) const {
  const GradientSpace space(o_.space, parameter.value, o_.singular);
  return (2 * static_cast<size_t>(space.low_rows() * space.low_cols()) + space.between()) * sizeof(float) + parameter.value.bytes();
}

void ApolloRule::update(Context& ctx, const Update& u, States states, float* scratch) const {
  const GradientSpace space(o_.space, u.value, o_.singular);
  const States matrices = states.first(space.states().size());
  States rest = states.subspan(matrices.size());
  const int64_t rows = space.low_rows(), cols = space.low_cols();
  const Tensor low(scratch, Dtype::F32, {rows, cols}), direction(scratch + rows * cols, Dtype::F32, {rows, cols});
  const Tensor full(scratch + 2 * rows * cols, Dtype::F32, {u.value.rows(), u.value.cols()});
  if ((u.step - 1) % o_.space.interval == 0) {
    if (o_.singular) {
      space.find(ctx, u.gradient, matrices);
    } else {
      uint64_t seed = seed_;
      for (int64_t k = (u.step - 1) / o_.space.interval; k > 0; --k) seed = next_torch_seed(seed);
      space.draw(seed, matrices);
    }
  }
  space.project(ctx, low, u.gradient, matrices, full.f32() + full.numel());
  // direction = −m / (√v + ε): AdamW's change of zeros at a rate that its corrections turn into 1
  const double step = static_cast<double>(u.step);
  const double corrections = std::sqrt(1 - std::pow(o_.adam.beta2, step)) / (1 - std::pow(o_.adam.beta1, step));
  std::memset(direction.data, 0, direction.bytes());
  Adam options = o_.adam;
  options.plain_epsilon = true;
  const Moment m = take_moment(rest), v = take_moment(rest);
  adam(ctx, {direction, low, u.scale, 1 / corrections, 0, u.step}, m, v, options);
  // each channel of the gradient is scaled as the direction is to its projection
  const int64_t full_rows = full.rows(), full_cols = full.cols();
  const double clip = u.scale;
  const float* g = u.gradient.f32();
  const auto factor = [&](const float* of_direction, const float* of_low, int64_t n, int64_t stride) {
    return norm(of_direction, n, stride) / (norm(of_low, n, stride) * clip + 1e-8) * clip;
  };
  const bool columns = o_.by_channel && full_rows < full_cols;
  const float whole = o_.by_channel ? 0 : static_cast<float>(factor(direction.f32(), low.f32(), rows * cols, 1));
  if (columns)  // their factors take the place of the direction's first row
    parallel_for(
        cols, [&](int64_t c) { direction.f32()[c] = static_cast<float>(factor(direction.f32() + c, low.f32() + c, rows, cols)); }, 256);
  parallel_for(
      full_rows,
      [&](int64_t r) {
        const float one =
            o_.by_channel && !columns ? static_cast<float>(factor(direction.f32() + r * cols, low.f32() + r * cols, cols, 1)) : whole;
        for (int64_t c = 0; c < full_cols; ++c) full.f32()[r * full_cols + c] = g[r * full_cols + c] * (columns ? direction.f32()[c] : one);
      },
      row_chunk(full_cols));
  // a change's norm grows by 1.01 at most
  const double front = o_.scale_front ? std::sqrt(o_.scale) : 1, back = o_.scale_front ? 1 : std::sqrt(o_.scale);
  const double size = std::sqrt(sum_of_squares(ctx, full)) * front;
  float& before = rest[0].f32()[0];
  const double limiter = u.step == 1 ? 1 : std::max(size / (static_cast<double>(before) + 1e-8), 1.01) / 1.01;
  before = static_cast<float>(size / limiter);
  add_and_decay(ctx, u.value, full, -u.rate * corrections * front * back / limiter, u.rate * u.decay, true);
}

}  // namespace loraine
