// Principal directions, covariances and gradients to A and B.
#include "loraine/adapters/data_start.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/adapters/dense_solve.h"
#include "loraine/adapters/lora.h"
#include "loraine/adapters/low_rank.h"
#include "loraine/adapters/start.h"
#include "loraine/core/error.h"

namespace loraine {

bool starts_from_data(const LoraConfig& config) { return config.init_lora_weights == "eva" || moves_base_by_data(config); }

bool moves_base_by_data(const LoraConfig& config) { return config.init_lora_weights == "corda" || config.init_lora_weights == "lora_ga"; }

void IncrementalPca::add(Context& ctx, const Tensor& x) {
  const int64_t rows = x.rows(), columns = x.cols();
  const auto width = static_cast<size_t>(columns);
  const double now = static_cast<double>(rows), before = static_cast<double>(seen_), all = now + before;
  std::vector<double> sum(width), square(width);
  for (int64_t t = 0; t < rows; ++t)
    for (size_t c = 0; c < width; ++c) sum[c] += static_cast<double>(x.f32()[t * x.row_stride + static_cast<int64_t>(c)]);
  for (int64_t t = 0; t < rows; ++t)
    for (size_t c = 0; c < width; ++c) {
      const double apart = static_cast<double>(x.f32()[t * x.row_stride + static_cast<int64_t>(c)]) - sum[c] / now;
      square[c] += apart * apart;
    }
  // The rows of the matrix whose directions count: what was seen before as singular values times components, the rows around their mean,
  // and one for the way between the means.
  const int64_t kept = begun() ? n_ : 0;
  std::vector<float> stacked(static_cast<size_t>((kept + rows + (begun() ? 1 : 0)) * columns));
  for (int64_t k = 0; k < kept; ++k)
    for (int64_t c = 0; c < columns; ++c)
      stacked[static_cast<size_t>(k * columns + c)] = values_[static_cast<size_t>(k)] * components_[static_cast<size_t>(k * columns + c)];
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t c = 0; c < columns; ++c)
      stacked[static_cast<size_t>((kept + t) * columns + c)] =
          static_cast<float>(static_cast<double>(x.f32()[t * x.row_stride + c]) - sum[static_cast<size_t>(c)] / now);
  if (begun()) {
    const double factor = std::sqrt(before / all * now);
    for (size_t c = 0; c < width; ++c)
      stacked[static_cast<size_t>((kept + rows) * columns) + c] = static_cast<float>(factor * (mean_[c] - sum[c] / now));
  }
  if (!begun()) mean_.assign(width, 0.0), variance_.assign(width, 0.0);
  double total = 0;
  for (size_t c = 0; c < width; ++c) {
    double unnormed = variance_[c] * before + square[c];
    if (begun()) {
      const double ratio = before / now, apart = mean_[c] * before / ratio - sum[c];
      unnormed += ratio / all * apart * apart;
    }
    mean_[c] = (mean_[c] * before + sum[c]) / all;
    variance_[c] = unnormed / all;
    total += unnormed;
  }
  const int64_t height = static_cast<int64_t>(stacked.size()) / columns;
  const Factors f = largest_singular(ctx, Tensor(stacked.data(), Dtype::F32, {height, columns}), n_);
  components_ = f.right;
  values_ = f.values;
  explained_.resize(static_cast<size_t>(n_));
  for (int64_t k = 0; k < n_; ++k) {
    float* row = components_.data() + k * columns;
    const float* largest = std::max_element(row, row + columns, [](float a, float b) { return std::abs(a) < std::abs(b); });
    if (*largest < 0)
      for (int64_t c = 0; c < columns; ++c) row[c] = -row[c];
    const double value = static_cast<double>(values_[static_cast<size_t>(k)]);
    explained_[static_cast<size_t>(k)] = total > 0 ? value * value / total : 0;
  }
  columns_ = columns;
  seen_ += rows;
}

std::vector<int64_t> eva_ranks(const std::vector<EvaLayer>& layers, const std::vector<IncrementalPca>& sources,
                               const std::vector<int64_t>& most) {
  std::vector<std::pair<double, size_t>> shares;  // of each component, the layer
  int64_t budget = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    budget += layers[i].r;
    for (int64_t k = 0; k < most[layers[i].source]; ++k)
      shares.emplace_back(sources[layers[i].source].explained()[static_cast<size_t>(k)], i);
  }
  std::ranges::stable_sort(shares, std::greater<>(), &std::pair<double, size_t>::first);
  std::vector<int64_t> ranks(layers.size());
  for (size_t i = 0; i < std::min(shares.size(), static_cast<size_t>(budget)); ++i) ++ranks[shares[i].second];
  for (size_t i = sources.size(); i < layers.size(); ++i)  // the first of a source has the most
    if (ranks[layers[i].source] < ranks[i]) std::swap(ranks[layers[i].source], ranks[i]);
  return ranks;
}

LoraConfig eva_config(const LoraConfig& config, const std::vector<EvaLayer>& layers, const std::vector<int64_t>& ranks) {
  LoraConfig made = config;
  made.rank_pattern.clear();
  made.alpha_pattern.clear();
  const bool all = std::ranges::none_of(ranks, [](int64_t r) { return r == 0; });
  if (!all) {
    made.target_modules.clear();
    made.target_regex.clear();
    made.exclude_modules.clear();
    made.exclude_regex.clear();
    made.layers_to_transform.clear();
    made.layers_pattern.clear();
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    if (ranks[i] == 0) continue;
    const EvaLayer& layer = layers[i];
    if (!all) made.target_modules.push_back(layer.path);
    double alpha = layer.alpha;
    if (ranks[i] != layer.r && config.eva.adjust_scaling_factors) alpha *= static_cast<double>(ranks[i]) / static_cast<double>(layer.r);
    if (ranks[i] != config.r) made.rank_pattern.emplace_back(layer.path, ranks[i]);
    if (alpha != config.lora_alpha) made.alpha_pattern.emplace_back(layer.path, alpha);
  }
  return made;
}

namespace {
[[noreturn]] void refuse_singular() {
  throw Error(ErrorKind::numeric, "a matrix of inputs has directions in which there is nothing, and cannot be inverted",
              "let the start see more samples: start_samples");
}
}  // namespace

void corda_start(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& w, const std::vector<double>& covariance, float s,
                 const CordaConfig& config) {
  const int64_t in = w.cols(), out = w.rows(), r = a.rows();
  if (r > std::min(in, out))
    throw Error(ErrorKind::usage, fmt::format("init_lora_weights corda: rank {} is above the smaller side of a layer, {} x {}", r, out, in),
                "choose a smaller lora_rank");
  std::vector<double> fixed = covariance;
  double mean = 0;
  for (int64_t i = 0; i < in; ++i) mean += covariance[static_cast<size_t>(i * in + i)] / static_cast<double>(in);
  for (int64_t i = 0; i < in; ++i) fixed[static_cast<size_t>(i * in + i)] += 0.01 * mean;
  std::vector<double> product(static_cast<size_t>(out * in));  // W C, C symmetric
  std::vector<double> wide(w.f32(), w.f32() + w.numel());
  product_nt(product, wide, fixed, out, in, in);
  const bool smallest = config.method == "kpm";
  Factors f;
  std::vector<float> narrow;
  if (smallest) {  // the largest of the pseudo-inverse [in, out], the other way round
    const std::vector<double> inverse = pseudo_inverse(product, out, in);
    if (inverse.empty()) refuse_singular();
    narrow.assign(inverse.begin(), inverse.end());
    const Factors g = largest_singular(ctx, Tensor(narrow.data(), Dtype::F32, {in, out}), r);
    f.left.resize(static_cast<size_t>(out * r));
    f.right.resize(static_cast<size_t>(r * in));
    f.values.resize(static_cast<size_t>(r));
    for (int64_t k = 0; k < r; ++k) {
      const int64_t from = r - 1 - k;
      f.values[static_cast<size_t>(k)] = 1 / g.values[static_cast<size_t>(from)];
      for (int64_t o = 0; o < out; ++o) f.left[static_cast<size_t>(o * r + k)] = g.right[static_cast<size_t>(from * out + o)];
      for (int64_t i = 0; i < in; ++i) f.right[static_cast<size_t>(k * in + i)] = g.left[static_cast<size_t>(i * r + from)];
    }
  } else {
    narrow.assign(product.begin(), product.end());
    f = largest_singular(ctx, Tensor(narrow.data(), Dtype::F32, {out, in}), r);
  }
  if (!factor_cholesky(fixed, in)) refuse_singular();
  for (int64_t k = 0; k < r; ++k) {
    const double root = std::sqrt(static_cast<double>(f.values[static_cast<size_t>(k)]) / static_cast<double>(s));
    std::vector<double> row(f.right.begin() + k * in, f.right.begin() + (k + 1) * in);
    solve_cholesky(fixed, row, in);
    for (int64_t i = 0; i < in; ++i) a.f32()[k * in + i] = static_cast<float>(row[static_cast<size_t>(i)] * root);
    for (int64_t o = 0; o < out; ++o)
      b.f32()[o * r + k] = static_cast<float>(static_cast<double>(f.left[static_cast<size_t>(o * r + k)]) * root);
  }
}

void lora_ga_start(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& gradient, float s,
                   const LoraGaConfig& config, const std::string& name, uint64_t seed) {
  const int64_t in = a.cols(), out = b.rows(), r = a.rows();
  if (2 * r > std::min(in, out))
    throw Error(ErrorKind::usage,
                fmt::format("init_lora_weights lora_ga: {} has rank {}, and takes twice as many singular vectors of a matrix of {} x {}",
                            name, r, out, in),
                "choose a smaller lora_rank");
  Factors f = largest_singular(ctx, gradient, 2 * r);
  for (int64_t k = 0; k < 2 * r; ++k) {  // signs are free, and the run depends on those that A and B have against each other
    float* row = f.right.data() + k * in;
    if (*std::max_element(row, row + in, [](float x, float y) { return std::abs(x) < std::abs(y); }) >= 0) continue;
    for (int64_t i = 0; i < in; ++i) row[i] = -row[i];
    for (int64_t o = 0; o < out; ++o) f.left[static_cast<size_t>(o * 2 * r + k)] *= -1;
  }
  std::vector<int64_t> of_a(static_cast<size_t>(r)), of_b = of_a;
  std::vector<int64_t> drawn(static_cast<size_t>(2 * r));
  for (int64_t k = 0; k < 2 * r; ++k) drawn[static_cast<size_t>(k)] = k;
  std::mt19937_64 random(seed);
  std::ranges::shuffle(drawn, random);
  for (int64_t k = 0; k < r; ++k) {
    int64_t &ka = of_a[static_cast<size_t>(k)], &kb = of_b[static_cast<size_t>(k)];
    if (config.direction == "ArBr") ka = 2 * k + 1, kb = 2 * k;
    else if (config.direction == "A2rBr") ka = r + k, kb = k;
    else if (config.direction == "ArB2r") ka = k, kb = r + k;
    else ka = kb = drawn[static_cast<size_t>(k)];
  }
  const double scale = static_cast<double>(s);
  double factor_a = 1, factor_b = 1;
  if (config.scale == "stable") factor_b = std::pow(static_cast<double>(out), 0.25) / std::sqrt(config.stable_gamma);
  if (config.scale == "gd_scale") factor_a = factor_b = 1 / scale;
  if (const float first = f.values[static_cast<size_t>(of_b[0])]; config.scale == "weight_svd" && first > 0)
    factor_b = static_cast<double>(largest_singular(ctx, w, 1).values[0]) / static_cast<double>(first);
  for (int64_t k = 0; k < r; ++k) {
    const int64_t ka = of_a[static_cast<size_t>(k)], kb = of_b[static_cast<size_t>(k)];
    for (int64_t i = 0; i < in; ++i)
      a.f32()[k * in + i] = static_cast<float>(static_cast<double>(f.right[static_cast<size_t>(ka * in + i)]) * factor_a);
    const double value = static_cast<double>(f.values[static_cast<size_t>(kb)]) * factor_b;
    for (int64_t o = 0; o < out; ++o)
      b.f32()[o * r + k] = static_cast<float>(static_cast<double>(f.left[static_cast<size_t>(o * 2 * r + kb)]) * value);
  }
}

void split_whole_base(const AdapterSet& doubled, const AdapterSet& trained, const AdapterSet& start) {
  for (size_t s = 0; s < doubled.sites.size(); ++s) {
    if (!doubled.sites[s]) continue;
    const std::vector<AdapterMatrices> from = doubled.sites[s]->matrices(), now = trained.sites[s]->matrices(),
                                       first = start.sites[s]->matrices();
    for (size_t i = 0; i < from.size(); ++i) {
      const int64_t r = now[i].part.r, elements = now[i].a.numel();
      std::copy_n(from[i].a.f32(), elements, now[i].a.f32());
      std::copy_n(from[i].a.f32() + elements, elements, first[i].a.f32());
      for (int64_t o = 0; o < now[i].part.out; ++o)
        for (int64_t k = 0; k < r; ++k) {
          now[i].b.f32()[o * r + k] = from[i].b.f32()[o * 2 * r + k];
          first[i].b.f32()[o * r + k] = -from[i].b.f32()[o * 2 * r + r + k];
        }
    }
  }
}

}  // namespace loraine
