// One training step, and the products it consists of.
#include "loraine/cli/bench/step.h"

#include <map>

#include "loraine/cli/bench/measure.h"
#include "loraine/cli/bench/random_model.h"
#include "loraine/kernels/products/int8_products.h"
#include "loraine/model/layer.h"
#include "loraine/train/loss.h"
#include "loraine/train/optimizers/optimizer.h"

namespace loraine {
namespace {

// One product shape of a step and how often it runs.
struct Shape {
  int64_t M, N, K;
  bool nn;
  Dtype type;  // that oneDNN multiplies it in here
  auto operator<=>(const Shape&) const = default;
};

std::map<Shape, int64_t> frozen_products(const Model& model, int64_t tokens) {
  std::map<Shape, int64_t> shapes;
  const Dtype exact = model.use_bf16 && has_bf16_products() ? Dtype::BF16 : Dtype::F32;
  const std::vector<const Weight*> sites = model.layer_sites();
  for (const Weight* w : sites) {
    const Dtype type = w->integer_products && has_int8_products() ? Dtype::I8 : exact;
    ++shapes[{tokens, w->out(), w->in(), false, type}];
    if (w != sites.front()) ++shapes[{tokens, w->in(), w->out(), true, type}];
  }
  const int64_t chunk = loss_chunk(model);
  for (int64_t rest = tokens; rest > 0; rest -= chunk) {
    int64_t rows = std::min(rest, chunk);
    ++shapes[{rows, model.head.weight.out(), model.head.weight.in(), false, exact}];
    ++shapes[{rows, model.head.weight.in(), model.head.weight.out(), true, exact}];
  }
  return shapes;
}

double flops_of(const std::map<Shape, int64_t>& shapes) {
  double sum = 0;
  for (const auto& [s, count] : shapes)
    sum += 2.0 * static_cast<double>(s.M) * static_cast<double>(s.N) * static_cast<double>(s.K) * static_cast<double>(count);
  return sum;
}

// Floating point operations that a step needs: frozen products forward and back, causal attention (2 + 5 products of which half is seen),
// adapters 2 + 4 per parameter and token. Nothing that is computed twice counts.
double step_flops(const Model& model, const AdapterSet& adapter, int64_t tokens) {
  double parameters = 0, mixing = 0;
  for (const Parameter& p : adapter.parameters()) parameters += static_cast<double>(p.value.numel());
  for (const auto& layer : model.layers)
    for (const Branch& branch : layer->branches) mixing += branch.mixer->flops(tokens);
  return flops_of(frozen_products(model, tokens)) + 3.5 * mixing + 6 * parameters * static_cast<double>(tokens);
}

}  // namespace

StepFigures bench_step(Context& ctx, const Model& model, int64_t tokens, const StepBench& how) {
  AdapterSet adapter = random_adapter(model, how.rank, true);
  Optimizer optimizer = adamw_optimizer(adapter.parameters());
  std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, tokens, true, sets, dry, how.recompute);
  dry.take(Dtype::F32, {tokens, model.config.hidden_size});
  Arena memory(dry.peak());
  Arena scratch(std::max(scratch_bytes(model, tokens, true, sets), loss_scratch_bytes(model, tokens, &adapter)));
  Activations activations = plan_activations(model, tokens, true, sets, memory, how.recompute);
  Tensor d_hidden = memory.take(Dtype::F32, {tokens, model.config.hidden_size});
  Pass pass{&activations, nullptr, sets, &scratch, true};
  Batch batch;
  for (int64_t t = 0; t < tokens; ++t) {
    batch.tokens.push_back(static_cast<int32_t>((t * 7919 + 13) % model.config.vocab_size));
    batch.positions.push_back(static_cast<int32_t>(t));
    batch.labels.push_back(static_cast<int32_t>((t * 104729 + 7) % model.config.vocab_size));
  }
  batch.sequences = {{0, tokens, 0, tokens}};
  batch.adapter_rows = {{0, tokens, 0}};
  auto step = [&] {
    optimizer.zero_gradients();
    decoder_forward(ctx, model, batch, pass);
    loss_and_head_gradient(ctx, model, batch, activations.hidden, d_hidden, 1.0f / static_cast<float>(tokens), {&adapter, true}, scratch);
    decoder_backward(ctx, model, batch, pass, adapter, d_hidden);
    optimizer.step(ctx, 1e-4, optimizer.gradient_norm(ctx), 1.0);
  };
  std::map<Shape, int64_t> shapes = frozen_products(model, tokens);
  std::map<Shape, BestRound> library;
  BestRound best;
  StepFigures figures;
  for (int64_t round = 0; round <= how.repeats; ++round) {  // alternating, so that what else runs on the machine meets both
    if (round == 0) {
      step();  // the first one touches the memory
      figures.peak = peak_bytes();
      continue;
    }
    const double step_cpu = measure(best, step);
    double library_cpu = 0;
    for (const auto& [s, count] : shapes) {
      ProductTime t = time_library_product(s.M, s.N, s.K, s.nn, s.type);
      library[s].take(t.wall, t.cpu);
      library_cpu += t.cpu * static_cast<double>(count);
    }
    figures.round_cpu_shares.push_back(step_flops(model, adapter, tokens) / step_cpu / (flops_of(shapes) / library_cpu));
  }
  if (how.profile) {
    ctx.profile = &figures.profile;
    const double begin = now();
    step();
    figures.profiled_seconds = now() - begin;
    ctx.profile = nullptr;
  }
  double wall = 0, cpu = 0;
  for (const auto& [s, count] : shapes) {
    wall += library[s].wall * static_cast<double>(count);
    cpu += library[s].cpu * static_cast<double>(count);
  }
  double flops = step_flops(model, adapter, tokens), products = flops_of(shapes);
  figures.flops_per_token = flops / static_cast<double>(tokens);
  figures.tokens_per_second = static_cast<double>(tokens) / best.wall;
  figures.step_rate = flops / best.wall;
  figures.library_rate = products / wall;
  figures.share = figures.step_rate / figures.library_rate;
  figures.cpu_share = (flops / best.cpu) / (products / cpu);
  return figures;
}

}  // namespace loraine
