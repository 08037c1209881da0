// The projection of B's gradient.
#include "loraine/train/optimizers/lorafa.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "loraine/core/error.h"
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/train/optimizers/rules/galore.h"

namespace loraine {

std::vector<StateShape> LoraFaRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  for (const char* name : {"m", "v"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols());
  return states;
}

size_t LoraFaRule::scratch_bytes(const Parameter& parameter) const { return static_cast<size_t>(parameter.value.numel()) * sizeof(float); }

// Jacobi's rotations, until what is beside the diagonal is nothing.
void invert_symmetric(std::vector<double>& m, int64_t n) {
  const auto at = [n](std::vector<double>& x, int64_t i, int64_t j) -> double& { return x[static_cast<size_t>(i * n + j)]; };
  std::vector<double> vectors(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) at(vectors, i, i) = 1;
  for (int turn = 0; turn < 60; ++turn) {
    double beside = 0, diagonal = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) (i == j ? diagonal : beside) += at(m, i, j) * at(m, i, j);
    if (beside <= 1e-30 * diagonal) break;
    for (int64_t p = 0; p < n; ++p)
      for (int64_t q = p + 1; q < n; ++q) {
        if (at(m, p, q) == 0) continue;
        const double theta = (at(m, q, q) - at(m, p, p)) / (2 * at(m, p, q));
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1)), c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (int64_t k = 0; k < n; ++k) {
          const double x = at(m, k, p), y = at(m, k, q);
          at(m, k, p) = c * x - s * y;
          at(m, k, q) = s * x + c * y;
        }
        for (int64_t k = 0; k < n; ++k) {
          const double x = at(m, p, k), y = at(m, q, k);
          at(m, p, k) = c * x - s * y;
          at(m, q, k) = s * x + c * y;
        }
        for (int64_t k = 0; k < n; ++k) {
          const double x = at(vectors, k, p), y = at(vectors, k, q);
          at(vectors, k, p) = c * x - s * y;
          at(vectors, k, q) = s * x + c * y;
        }
      }
  }
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(at(m, i, i)));
  const double least = largest * static_cast<double>(n) * static_cast<double>(std::numeric_limits<float>::epsilon());
  std::vector<double> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = at(m, i, i) > least ? 1 / at(m, i, i) : 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k) sum += at(vectors, i, k) * values[static_cast<size_t>(k)] * at(vectors, j, k);
      at(m, i, j) = sum;
    }
}

void LoraFaRule::update(Context& ctx, const Update& u, States states, float* scratch) const {
  const int64_t r = a_.rows();
  if (inverse_.bytes() == 0) {
    std::vector<double> product(static_cast<size_t>(r * r));
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        const float *x = a_.f32() + i * a_.row_stride, *y = a_.f32() + j * a_.row_stride;
        double sum = i == j ? 1e-8 : 0;
        for (int64_t k = 0; k < a_.cols(); ++k) sum += static_cast<double>(x[k]) * static_cast<double>(y[k]);
        product[static_cast<size_t>(i * r + j)] = product[static_cast<size_t>(j * r + i)] = sum;
      }
    invert_symmetric(product, r);
    inverse_ = Buffer(product.size() * sizeof(float));
    const double s = static_cast<double>(scale_);
    for (size_t i = 0; i < product.size(); ++i) static_cast<float*>(inverse_.data())[i] = static_cast<float>(product[i] / (s * s));
  }
  Update projected = u;
  projected.gradient = Tensor(scratch, Dtype::F32, {u.value.rows(), r});
  matmul_nn(ctx, projected.gradient, u.gradient, Tensor(inverse_.data(), Dtype::F32, {r, r}));
  const Moment m = take_moment(states), v = take_moment(states);
  adam(ctx, projected, m, v, {.beta1 = beta1_, .beta2 = beta2_, .epsilon = epsilon_, .plain_epsilon = true, .decay_last = true});
}

Recipe lorafa_recipe(const TrainConfig& c, std::span<const Parameter> parameters, const AdapterSet& adapter) {
  std::vector<AdapterMatrices> matrices;
  for (const auto& site : adapter.sites)
    if (site)
      for (AdapterMatrices& one : site->matrices()) matrices.push_back(std::move(one));
  const double epsilon = c.given.contains("adam_epsilon") ? c.adam_epsilon : 1e-6;  // PEFT's
  Recipe recipe;
  recipe.rules.push_back(std::make_unique<PlainAdamWRule>(Adam{.beta1 = c.adam_beta1, .beta2 = c.adam_beta2, .epsilon = epsilon}));
  for (const Parameter& p : parameters) {
    const Rule* rule = recipe.rules.front().get();
    const auto own = std::ranges::find_if(matrices, [&](const AdapterMatrices& one) { return one.b.data == p.value.data; });
    if (own != matrices.end()) {
      recipe.rules.push_back(std::make_unique<LoraFaRule>(own->a, own->part.scale, c.adam_beta1, c.adam_beta2, epsilon));
      rule = recipe.rules.back().get();
    }
    recipe.parts.push_back({rule, 1, c.weight_decay});  // PEFT has one group for all
  }
  return recipe;
}

void check_lorafa(const TrainConfig& c) {
  if (!c.use_lorafa) return;
  const std::pair<const char*, bool> others[] = {{"use_dora", c.use_dora},     {"use_adalora", c.use_adalora},
                                                 {"lora_bias", c.lora_bias},   {"loraplus_lr_ratio", c.loraplus_lr_ratio.has_value()},
                                                 {"use_galore", c.use_galore}, {"use_apollo", c.use_apollo},
                                                 {"use_badam", c.use_badam},   {"use_adam_mini", c.use_adam_mini},
                                                 {"use_muon", c.use_muon},     {"optim_args", c.optim_args.has_value()}};
  for (const auto& [key, given] : others)
    if (given) throw Error(ErrorKind::usage, fmt::format("use_lorafa and {} exclude each other", key), "leave one of the two out");
  if (optimizer_form(c.optim) != "adamw_torch")
    throw Error(ErrorKind::usage, fmt::format("use_lorafa updates by AdamW, and optim is {}", c.optim), "leave optim out");
  for (const std::string& name : split_list(c.lora_target))
    if (name == "embed_tokens" || name.starts_with("experts"))
      throw Error(ErrorKind::usage, fmt::format("use_lorafa goes with linear layers, and lora_target names {}", name), "leave it out");
}

}  // namespace loraine
