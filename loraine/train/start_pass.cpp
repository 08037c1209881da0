// Forward, and for LoRA-GA backward, in memory of its own that is given back before the run is planned.
#include "loraine/train/start_pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/adapters/data_start.h"
#include "loraine/adapters/dense.h"
#include "loraine/core/error.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/model/decoder.h"
#include "loraine/train/loss.h"

namespace loraine {
namespace {

using OnInput = std::function<void(int64_t site, const Tensor& x)>;

// Memory for passes over batches of up to `rows` rows; `gradients`: a set whose tensors get some, or nothing.
class BasePass {
 public:
  BasePass(const Model& model, int64_t rows, AdapterSet* gradients) : model_(model), gradients_(gradients) {
    const std::vector<const AdapterSet*> sets = gradients ? std::vector<const AdapterSet*>{gradients} : std::vector<const AdapterSet*>();
    const bool training = gradients != nullptr;
    Arena dry;
    plan_activations(model, rows, training, sets, dry, Recompute::block);
    memory_ = Arena(dry.peak());
    scratch_ = Arena(std::max(scratch_bytes(model, rows, training, sets), loss_scratch_bytes(model, rows, gradients)));
    activations_ = plan_activations(model, rows, training, sets, memory_, Recompute::block);
    pass_ = {&activations_, nullptr, sets, &scratch_, training};
    if (training) d_memory_ = Buffer(static_cast<size_t>(rows * model.config.hidden_size) * sizeof(float));
  }
  void forward(const Batch& batch, const OnInput& on_input) {
    pass_.before_site = on_input;
    decoder_forward(ctx_, model_, batch, pass_);
  }
  // Adds the gradient of the batch's mean loss; false where it has no label.
  bool backward(Batch batch) {
    const auto labels = std::ranges::count_if(batch.labels, [](int32_t label) { return label != kIgnoreLabel; });
    if (labels == 0) return false;
    batch.adapter_rows = {{0, batch.rows(), 0}};
    decoder_forward(ctx_, model_, batch, pass_);
    const Tensor d_hidden(d_memory_.data(), Dtype::F32, {batch.rows(), model_.config.hidden_size});
    LossOptions options;
    options.set = gradients_;
    loss_and_head_gradient(ctx_, model_, batch, activations_.hidden.row_range(0, batch.rows()), d_hidden, 1.0f / static_cast<float>(labels),
                           options, scratch_);
    decoder_backward(ctx_, model_, batch, pass_, *gradients_, d_hidden);
    return true;
  }

 private:
  Context ctx_;
  const Model& model_;
  AdapterSet* gradients_;
  Arena memory_, scratch_;
  Activations activations_;
  Pass pass_;
  Buffer d_memory_;
};

std::vector<std::span<const Example* const>> batches_of_start(const StartData& data, int64_t size) {
  std::vector<std::span<const Example* const>> all;
  for (size_t first = 0; first < data.examples.size(); first += static_cast<size_t>(size))
    all.push_back(std::span(data.examples).subspan(first, std::min(static_cast<size_t>(size), data.examples.size() - first)));
  return all;
}

int64_t most_rows(const std::vector<std::span<const Example* const>>& batches) {
  int64_t most = 1;
  for (const auto& batch : batches) most = std::max(most, batch_rows(batch, 0));
  return most;
}

// Rows of x in F32, those of `keep`; all where it is empty.
std::vector<float> rows_in_f32(const Tensor& x, const std::vector<int64_t>* keep) {
  const int64_t n = keep ? static_cast<int64_t>(keep->size()) : x.rows();
  std::vector<float> out(static_cast<size_t>(n * x.cols()));
  for (int64_t i = 0; i < n; ++i) widen_row(out.data() + i * x.cols(), x.row_range(keep ? (*keep)[static_cast<size_t>(i)] : i, 1));
  return out;
}

// The rows whose own token is trained, as PEFT's mask of labels has them.
std::vector<int64_t> labelled_rows(std::span<const Example* const> batch) {
  std::vector<int64_t> rows;
  int64_t first = 0;
  for (const Example* example : batch) {
    const int64_t own = example_rows(*example);
    for (int64_t t = 0; t < own; ++t)
      if (example->labels[static_cast<size_t>(t)] != kIgnoreLabel) rows.push_back(first + t);
    first += own;
  }
  return rows;
}

bool all_settled(const std::vector<bool>& settled, int64_t count) {
  return std::find(settled.begin(), settled.begin() + count, false) == settled.begin() + count;
}

// Of each component, whether its cosine with what it was before is at least tau.
std::vector<bool> settled_ones(const std::vector<float>& now, const std::vector<float>& before, int64_t n, int64_t columns, double tau) {
  std::vector<bool> settled(static_cast<size_t>(n));
  for (int64_t k = 0; k < n; ++k) {
    double dot = 0, a = 0, b = 0;
    for (int64_t c = 0; c < columns; ++c) {
      const double x = static_cast<double>(now[static_cast<size_t>(k * columns + c)]),
                   y = static_cast<double>(before[static_cast<size_t>(k * columns + c)]);
      dot += x * y, a += x * x, b += y * y;
    }
    settled[static_cast<size_t>(k)] = dot / std::max(std::sqrt(a * b), 1e-8) >= tau;
  }
  return settled;
}

// A site of EVA: PEFT's hook on the first of the layers that share their input.
struct EvaSite {
  int64_t site = 0;
  bool watched = true, done = false;
  std::vector<bool> settled;
};

// Sites and layers that the config targets: first a layer of each site, then the others.
void find_eva_layers(const Model& model, const LoraConfig& config, std::vector<EvaSite>& sites, std::vector<EvaLayer>& layers,
                     std::vector<int64_t>& most) {
  std::vector<EvaLayer> others;
  const std::vector<const Weight*> all = model.sites();
  for (size_t s = 0; s < all.size(); ++s) {
    int64_t widest = 0;
    std::vector<EvaLayer> here;
    for (const WeightPart& part : all[s]->parts) {
      const auto rank = target_rank(config, part.name);
      if (!rank) continue;
      here.push_back({part.name, sites.size(), rank->r, target_alpha(config, part.name)});
      widest = std::max(widest, static_cast<int64_t>(std::nearbyint(static_cast<double>(rank->r) * config.eva.rho)));
    }
    if (here.empty()) continue;
    if (widest > all[s]->in())
      throw Error(ErrorKind::usage,
                  fmt::format("init_lora_weights eva: up to {} directions are looked for of {}, whose input has {}", widest, here[0].path,
                              all[s]->in()),
                  "choose a smaller lora_rank or eva_rho");
    sites.push_back({static_cast<int64_t>(s), true, false, std::vector<bool>(static_cast<size_t>(widest))});
    most.push_back(widest);
    layers.push_back(here[0]);
    others.insert(others.end(), here.begin() + 1, here.end());
  }
  layers.insert(layers.end(), others.begin(), others.end());
}

// Before a batch, as PEFT: who has settled is no longer looked at, and once more when its rank has grown past what has. True when all have.
bool watch_anew(std::vector<EvaSite>& sites, const std::vector<int64_t>& ranks) {
  for (size_t i = 0; i < sites.size(); ++i) {
    EvaSite& s = sites[i];
    const bool settled = all_settled(s.settled, ranks[i]);
    if (!s.done && settled && s.watched) s.watched = false, s.done = true;
    else if (s.done && !settled) s.watched = true, s.done = false;
  }
  return std::ranges::all_of(sites, &EvaSite::done);
}

}  // namespace

EvaStart find_eva_start(const Model& model, const LoraConfig& config, const StartData& data,
                        const std::function<void(const std::string&)>& message) {
  std::vector<EvaSite> sites;
  std::vector<EvaLayer> layers;
  std::vector<int64_t> most;
  find_eva_layers(model, config, sites, layers, most);
  std::vector<IncrementalPca> found;
  for (const int64_t n : most) found.emplace_back(n);
  const auto batches = batches_of_start(data, data.batch_size);
  BasePass pass(model, most_rows(batches), nullptr);
  std::vector<int64_t> ranks;
  for (const EvaLayer& layer : layers) ranks.push_back(most[layer.source]);
  constexpr int64_t kMostPasses = 1000;  // of batches; PEFT has no end
  int64_t passes = 0;
  for (; !watch_anew(sites, ranks); ++passes) {
    const auto& batch = batches[static_cast<size_t>(passes) % batches.size()];
    if (passes >= kMostPasses)
      throw Error(ErrorKind::numeric, fmt::format("init_lora_weights eva: the directions have not settled after {} batches", passes),
                  "lower eva_tau, or raise per_device_train_batch_size");
    if (passes == static_cast<int64_t>(batches.size()) && !std::ranges::all_of(found, &IncrementalPca::begun))
      throw Error(ErrorKind::usage,
                  fmt::format("init_lora_weights eva: no batch has as many tokens as directions are looked for ({})",
                              *std::ranges::max_element(most)),
                  "raise per_device_train_batch_size, lower lora_rank or eva_rho, or set eva_use_label_mask: false");
    const std::vector<int64_t> rows = config.eva.use_label_mask ? labelled_rows(batch) : std::vector<int64_t>();
    pass.forward(make_batch(batch), [&](int64_t site, const Tensor& x) {
      const auto at = std::ranges::find(sites, site, &EvaSite::site);
      if (at == sites.end() || !at->watched) return;
      const auto i = static_cast<size_t>(at - sites.begin());
      std::vector<float> values = rows_in_f32(x, config.eva.use_label_mask ? &rows : nullptr);
      const int64_t count = static_cast<int64_t>(values.size()) / x.cols();
      if (count < most[i]) return;
      const std::vector<float> before = found[i].components();
      Context ctx;
      found[i].add(ctx, Tensor(values.data(), Dtype::F32, {count, x.cols()}));
      if (!before.empty()) at->settled = settled_ones(found[i].components(), before, most[i], x.cols(), config.eva.tau);
    });
    if (std::ranges::all_of(found, &IncrementalPca::begun)) ranks = eva_ranks(layers, found, most);
  }
  if (message) {
    const auto [least, largest] = std::ranges::minmax_element(ranks);
    message(fmt::format("EVA: directions settled after {} batches; ranks from {} to {}", passes, *least, *largest));
  }
  EvaStart start;
  start.config = eva_config(config, layers, ranks);
  start.fill = [layers, found = std::move(found), whiten = config.eva.whiten](const AdapterSet& set) {
    for (const auto& site : set.sites) {
      if (!site) continue;
      for (const AdapterMatrices& m : site->matrices()) {
        const IncrementalPca& own = found[std::ranges::find(layers, m.part.name, &EvaLayer::path)->source];
        for (int64_t k = 0; k < m.part.r; ++k) {
          const float by = whiten ? 1 / std::sqrt(own.singular_values()[static_cast<size_t>(k)]) : 1.0f;
          for (int64_t c = 0; c < m.a.cols(); ++c)
            m.a.f32()[k * m.a.cols() + c] = own.components()[static_cast<size_t>(k * m.a.cols() + c)] * by;
        }
        std::fill_n(m.b.f32(), m.b.numel(), 0.0f);
      }
    }
  };
  return start;
}

namespace {

// W of a part in F32, in `memory` where it is of another type.
Tensor whole_part(const Weight& site, const LoraPart& part, std::vector<float>& memory) {
  memory.resize(static_cast<size_t>(part.out * site.in()));
  return weight_rows(site.parts[static_cast<size_t>(part.part)], 0, part.out, Tensor(memory.data(), Dtype::F32, {part.out, site.in()}));
}

// Xᵀ X of each adapted site, the samples one by one, each divided by its largest value: their mean.
std::map<int64_t, std::vector<double>> covariances(const AdapterSet& set, const Model& model, const StartData& data) {
  std::map<int64_t, std::vector<double>> sums;
  const std::vector<const Weight*> sites = model.sites();
  for (size_t s = 0; s < set.sites.size(); ++s)
    if (set.sites[s]) sums[static_cast<int64_t>(s)].resize(static_cast<size_t>(sites[s]->in() * sites[s]->in()));
  const auto batches = batches_of_start(data, 1);
  BasePass pass(model, most_rows(batches), nullptr);
  for (const auto& batch : batches)
    pass.forward(make_batch(batch), [&](int64_t site, const Tensor& x) {
      const auto at = sums.find(site);
      if (at == sums.end()) return;
      std::vector<float> values = rows_in_f32(x, nullptr);
      const float largest = std::abs(*std::ranges::max_element(values)), by = largest > 0 ? 1 / largest : 0.0f;
      const int64_t n = x.cols();
      for (float& v : values) v *= by;
      std::vector<float> product(static_cast<size_t>(n * n));
      Context ctx;
      const Tensor rows(values.data(), Dtype::F32, {x.rows(), n});
      matmul_tn(ctx, Tensor(product.data(), Dtype::F32, {n, n}), rows, rows);
      for (size_t i = 0; i < product.size(); ++i) at->second[i] += static_cast<double>(product[i]) / static_cast<double>(batches.size());
    });
  return sums;
}

void fill_corda(const AdapterSet& set, const Model& model, const LoraConfig& config, const StartData& data) {
  const auto sums = covariances(set, model, data);
  Context ctx;
  std::vector<float> memory;
  for (const auto& [site, covariance] : sums)
    for (const AdapterMatrices& m : set.sites[static_cast<size_t>(site)]->matrices())
      corda_start(ctx, m.a, m.b, whole_part(*model.sites()[static_cast<size_t>(site)], m.part, memory), covariance, m.part.scale,
                  config.corda);
}

// A set that trains the adapted matrices where they lie: gradients alone.
AdapterSet gradient_set(const AdapterSet& adapted, const Model& model) {
  const std::vector<const Weight*> sites = model.sites();
  AdapterSet set;
  set.sites.resize(sites.size());
  set.head_site = model.head.index;
  auto dense = std::make_shared<DenseSet>();
  dense->sites.resize(sites.size());
  dense->vectors.resize(model.vectors().size());
  dense->tables.resize(model.tables().size());
  dense->experts.resize(model.experts().size());
  size_t bytes = 0;
  for (size_t s = 0; s < sites.size(); ++s)
    if (adapted.sites[s])
      for (const AdapterMatrices& m : adapted.sites[s]->matrices())
        bytes += static_cast<size_t>(m.part.out * sites[s]->in()) * sizeof(float);
  dense->memory = Buffer(bytes, true);
  float* next = static_cast<float*>(dense->memory.data());
  for (size_t s = 0; s < sites.size(); ++s) {
    if (!adapted.sites[s]) continue;
    DenseSite& own = dense->sites[s];
    for (const WeightPart& part : sites[s]->parts) {
      WeightPart& view = own.weight.parts.emplace_back();
      view.name = part.name;
      view.stored = part.stored;
      view.weight = part.weight;
      view.bias = part.bias;
    }
    for (const AdapterMatrices& m : adapted.sites[s]->matrices()) {
      own.d_weight[m.part.part] = Tensor(next, Dtype::F32, {m.part.out, sites[s]->in()});
      next += m.part.out * sites[s]->in();
    }
  }
  set.dense = std::move(dense);
  return set;
}

void fill_lora_ga(const AdapterSet& set, const Model& model, const LoraConfig& config, const StartData& data, uint64_t seed) {
  AdapterSet gradients = gradient_set(set, model);
  int64_t counted = 0;
  {
    const auto batches = batches_of_start(data, data.batch_size);
    BasePass pass(model, most_rows(batches), &gradients);
    for (const auto& batch : batches) counted += pass.backward(make_batch(batch)) ? 1 : 0;
  }
  if (counted == 0)
    throw Error(ErrorKind::usage, "init_lora_weights lora_ga: no example that it looks at has a label", "raise start_samples");
  Context ctx;
  std::vector<float> memory;
  for (size_t s = 0; s < set.sites.size(); ++s) {
    if (!set.sites[s]) continue;
    for (const AdapterMatrices& m : set.sites[s]->matrices()) {
      const Tensor& gradient = gradients.dense->sites[s].d_weight[m.part.part];
      for (int64_t i = 0; i < gradient.numel(); ++i) gradient.f32()[i] /= static_cast<float>(counted);
      lora_ga_start(ctx, m.a, m.b, whole_part(*model.sites()[s], m.part, memory), gradient, m.part.scale, config.lora_ga, m.part.name,
                    seed + s * 16 + static_cast<uint64_t>(m.part.part));
    }
  }
}

}  // namespace

void fill_from_data(const AdapterSet& set, const Model& model, const LoraConfig& config, const StartData& data, uint64_t seed) {
  if (config.init_lora_weights == "corda") fill_corda(set, model, config, data);
  else fill_lora_ga(set, model, config, data, seed);
}

}  // namespace loraine
