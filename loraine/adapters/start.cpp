// Starts that draw random numbers, and starts that factor the base.
#include "loraine/adapters/start.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include "loraine/adapters/fill_values.h"
#include "loraine/adapters/lora.h"
#include "loraine/adapters/low_rank.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr std::string_view kIterated = "pissa_niter_";

// N of pissa_niter_N; -1 when it is something else.
int64_t iterations_of(const std::string& init) {
  if (!init.starts_with(kIterated)) return -1;
  int64_t n = -1;
  const char* last = init.data() + init.size();
  const auto [end, failed] = std::from_chars(init.data() + kIterated.size(), last, n);
  return failed == std::errc() && end == last && n <= 10000 ? n : -1;
}

// Rows of an orthogonal matrix go to A and B in turn, so that B A is 0 although neither is.
void fill_orthogonal(Context& ctx, const Tensor& a, const Tensor& b, const std::string& name, std::mt19937_64& random) {
  const int64_t r = a.rows(), half = r / 2, in = a.cols(), out = b.rows();
  if (r % 2)
    throw Error(ErrorKind::usage, fmt::format("init_lora_weights orthogonal: {} has rank {}, which is odd", name, r),
                "choose an even lora_rank");
  std::vector<float> square(static_cast<size_t>(r * r)), mix_a(static_cast<size_t>(in * half)), mix_b(static_cast<size_t>(out * half));
  const Tensor x(square.data(), Dtype::F32, {r, r}), p(mix_a.data(), Dtype::F32, {in, half}), s(mix_b.data(), Dtype::F32, {out, half});
  for (const Tensor& t : {x, p, s}) fill_normal(t, 1, random);
  const Factors q = first_of_qr(ctx, x, r);
  auto mixed = [&](const Tensor& mix, int64_t row, int64_t first, int64_t column) {
    float sum = 0;
    for (int64_t k = 0; k < half; ++k) sum += mix.f32()[row * half + k] * q.left[static_cast<size_t>((2 * k + first) * r + column)];
    return sum / 10;
  };
  for (int64_t k = 0; k < r; ++k)
    for (int64_t i = 0; i < in; ++i) a.f32()[k * in + i] = mixed(p, i, 0, k);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t k = 0; k < r; ++k) b.f32()[o * r + k] = mixed(s, o, 1, k);
}

// A and B from the factors of W.
void fill_from_base(Context& ctx, const Tensor& a, const Tensor& b, const LoraPart& part, const Weight& base, const LoraConfig& config,
                    uint64_t site) {
  const WeightPart& weight = base.parts[static_cast<size_t>(part.part)];
  Buffer memory(static_cast<size_t>(part.out * base.in()) * sizeof(float));
  const Tensor w = weight_rows(weight, 0, part.out, Tensor(memory.data(), Dtype::F32, {part.out, base.in()}));
  const int64_t r = part.r, iterations = iterations_of(config.init_lora_weights);
  // The start of the random search is fixed by the place in the model alone, so that loading finds the same factors.
  const Factors f = config.init_lora_weights == "olora" ? first_of_qr(ctx, w, r)
                    : iterations >= 0 ? randomized_singular(ctx, w, r, iterations, site * 16 + static_cast<uint64_t>(part.part))
                                      : largest_singular(ctx, w, r);
  for (int64_t k = 0; k < r; ++k) {
    const float root = f.values.empty() ? 1.0f : std::sqrt(f.values[static_cast<size_t>(k)] / part.scale);
    for (int64_t i = 0; i < base.in(); ++i) a.f32()[k * base.in() + i] = f.right[static_cast<size_t>(k * base.in() + i)] * root;
    for (int64_t o = 0; o < part.out; ++o) b.f32()[o * r + k] = f.left[static_cast<size_t>(o * r + k)] * root;
  }
}

}  // namespace

bool known_start(const std::string& init) {
  for (const char* name : {"true", "false", "gaussian", "orthogonal", "olora", "pissa", "loftq", "eva", "corda", "lora_ga"})
    if (init == name) return true;
  return iterations_of(init) >= 0;
}

bool searches_at_random(const LoraConfig& config) { return iterations_of(config.init_lora_weights) >= 0; }

bool changes_base(const LoraConfig& config) { return config.init_lora_weights == "olora" || config.init_lora_weights.starts_with("pissa"); }

void init_lora(AdapterSet& set, const std::vector<const Weight*>& sites, const LoraConfig& config, uint64_t seed) {
  struct Place {
    size_t site;
    AdapterMatrices matrices;
  };
  std::vector<Place> places;
  for (size_t s = 0; s < set.sites.size(); ++s)
    if (set.sites[s])
      for (AdapterMatrices& m : set.sites[s]->matrices()) places.push_back({s, std::move(m)});
  std::ranges::sort(places, {}, [](const Place& p) { return p.matrices.part.name; });  // the order in which random numbers are drawn
  Context ctx;
  std::mt19937_64 random(seed);
  const std::string& init = config.init_lora_weights;
  for (const auto& [site, m] : places) {
    if (changes_base(config)) {
      fill_from_base(ctx, m.a, m.b, m.part, *sites[site], config, site);
    } else if (init == "orthogonal") {
      fill_orthogonal(ctx, m.a, m.b, m.part.name, random);
    } else {
      if (init == "gaussian") fill_normal(m.a, 1.0f / static_cast<float>(m.part.r), random);
      else fill_uniform(m.a, m.a.cols(), random);
      if (init == "false") fill_uniform(m.b, m.b.cols(), random);
      else std::fill_n(m.b.f32(), m.b.numel(), 0.0f);
      if (m.bias.data && init == "false") fill_uniform(m.bias, m.part.r, random);
    }
  }
}

void start_adapter(AdapterSet& set, const std::vector<Weight*>& sites, const LoraConfig& config, uint64_t seed,
                   const ReadWhole& read_whole) {
  if (quantises_base(config)) quantise_base(set, sites, config, true, read_whole);
  else init_lora(set, {sites.begin(), sites.end()}, config, seed);
  if (changes_base(config)) subtract_from_base(sites, set);
  if (set.shared) config.method->start_shared(*set.shared, seed);
  Context ctx;
  for (const auto& site : set.sites)
    if (site) site->initialise(ctx, seed);
}

void subtract_from_base(const std::vector<Weight*>& sites, const AdapterSet& start) {
  AdapterSet negative;
  negative.sites.resize(sites.size());
  for (size_t s = 0; s < sites.size(); ++s) {
    if (!start.sites[s]) continue;
    std::vector<LoraPart> parts;
    const std::vector<AdapterMatrices> matrices = start.sites[s]->matrices();
    for (const AdapterMatrices& m : matrices) {
      parts.push_back(m.part);
      parts.back().scale = -m.part.scale;
    }
    auto lora = std::make_unique<Lora>(sites[s]->in(), std::move(parts), 0.0f, s, false);
    for (size_t i = 0; i < matrices.size(); ++i) {
      std::copy_n(matrices[i].a.f32(), matrices[i].a.numel(), lora->a(i).f32());
      std::copy_n(matrices[i].b.f32(), matrices[i].b.numel(), lora->b(i).f32());
    }
    negative.sites[s] = std::move(lora);
  }
  merge_into_weights(sites, negative);
}

AdapterSet over_whole_base(const AdapterSet& trained, const AdapterSet& start, const std::vector<const Weight*>& sites,
                           LoraConfig& config) {
  if (config.use_rslora && !(config.rank_pattern.empty() && config.alpha_pattern.empty()))
    throw Error(ErrorKind::usage, "an adapter with use_rslora and rank_pattern or alpha_pattern cannot be written for the whole base",
                "leave pissa_convert out");
  config.init_lora_weights = "true";
  config.r *= 2;
  config.lora_alpha *= config.use_rslora ? std::sqrt(2.0) : 2.0;
  for (auto& [name, r] : config.rank_pattern) r *= 2;
  for (auto& [name, alpha] : config.alpha_pattern) alpha *= 2;
  AdapterSet doubled = attach_lora(sites, config, false);
  std::vector<Parameter> others = trained.parameters();
  std::erase_if(others, [](const Parameter& p) { return p.name.ends_with(".lora_A.weight") || p.name.ends_with(".lora_B.weight"); });
  for (size_t s = 0; s < sites.size(); ++s) {
    if (!doubled.sites[s]) continue;
    const std::vector<AdapterMatrices> to = doubled.sites[s]->matrices(), now = trained.sites[s]->matrices(),
                                       first = start.sites[s]->matrices();
    for (size_t i = 0; i < to.size(); ++i) {
      const int64_t r = now[i].part.r;
      std::copy_n(now[i].a.f32(), now[i].a.numel(), to[i].a.f32());
      std::copy_n(first[i].a.f32(), first[i].a.numel(), to[i].a.f32() + now[i].a.numel());
      for (int64_t o = 0; o < now[i].part.out; ++o)
        for (int64_t k = 0; k < r; ++k) {
          to[i].b.f32()[o * 2 * r + k] = now[i].b.f32()[o * r + k];
          to[i].b.f32()[o * 2 * r + r + k] = -first[i].b.f32()[o * r + k];
        }
    }
  }
  for (const Parameter& to : doubled.parameters())  // DoRA's magnitudes
    for (const Parameter& from : others)
      if (from.name == to.name) std::copy_n(from.value.f32(), from.value.numel(), to.value.f32());
  doubled.dense = trained.dense;
  for (const TokenRows& from : trained.token_rows) {
    TokenRows& to = doubled.token_rows.emplace_back(TokenRows{from.base_name, from.ids, {}, Buffer(from.rows.value.bytes())});
    to.rows = {from.rows.name, Tensor(to.memory.data(), Dtype::F32, {from.rows.value.rows(), from.rows.value.cols()}), {}};
    std::copy_n(from.rows.value.f32(), from.rows.value.numel(), to.rows.value.f32());
    to.table_stored = from.table_stored;
    to.of_embedding = from.of_embedding;
    to.of_head = from.of_head;
  }
  Context ctx;
  doubled.refresh(ctx);
  return doubled;
}

}  // namespace loraine
