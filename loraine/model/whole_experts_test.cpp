// Experts, routers and their biases trained whole: gradients against differences of the loss, rows of several sets beside each other, what
// the files are given; adapters on experts that are added to the base.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <random>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "tests/support/any_model.h"

namespace loraine::whole_experts_test {
namespace {

constexpr int64_t kRows = 17, kC = 32, kE = 4;

nlohmann::json family(const char* type, const nlohmann::json& more) {
  nlohmann::json all = {
      {"model_type", type},           {"vocab_size", 41},         {"hidden_size", kC},        {"intermediate_size", 12},
      {"num_hidden_layers", 2},       {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 8},
      {"num_local_experts", kE},      {"num_experts", kE},        {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12},
      {"max_position_embeddings", 64}};
  all.update(more);
  return all;
}

std::vector<nlohmann::json> families() {
  return {
      family("qwen3_moe", {{"norm_topk_prob", true}}), family("mixtral", nlohmann::json::object()),
      family("gpt_oss", {{"sliding_window", 6}}),
      family("glm4_moe",
             {{"n_routed_experts", kE}, {"n_group", 2}, {"topk_group", 1}, {"first_k_dense_replace", 0}, {"n_shared_experts", 1}}),
      family("llama4_text",
             {{"num_experts_per_tok", 1}, {"intermediate_size_mlp", 20}, {"interleave_moe_layer_step", 1}, {"attention_chunk_size", 8}})};
}

Batch batch() {
  Batch out;
  for (int64_t t = 0; t < kRows; ++t) {
    out.tokens.push_back(static_cast<int32_t>((t * 11 + 3) % 41));
    out.positions.push_back(static_cast<int32_t>(t));
  }
  out.sequences.push_back({0, kRows, 0, kRows});
  out.adapter_rows = {{0, kRows, 0}};
  return out;
}

std::vector<float> run(const Model& model, const std::vector<const AdapterSet*>& sets, const Batch& rows, AdapterSet* trained,
                       const std::vector<float>& d, Recompute recompute = Recompute::none) {
  Arena dry;
  plan_activations(model, kRows, trained != nullptr, sets, dry, recompute);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, trained != nullptr, sets));
  Activations activations = plan_activations(model, kRows, trained != nullptr, sets, memory, recompute);
  Pass pass{&activations, nullptr, sets, &scratch, trained != nullptr};
  Context ctx;
  decoder_forward(ctx, model, rows, pass);
  const std::vector<float> hidden(activations.hidden.f32(), activations.hidden.f32() + kRows * kC);
  if (trained) {
    std::vector<float> gradient = d;
    decoder_backward(ctx, model, rows, pass, *trained, Tensor(gradient.data(), Dtype::F32, {kRows, kC}));
  }
  return hidden;
}

std::vector<float> random_values(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> all(n);
  for (float& x : all) x = normal(random);
  return all;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

std::vector<float> gradients(const AdapterSet& set) {
  std::vector<float> all;
  for (const Parameter& p : set.parameters()) all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
  return all;
}

// Loss: the hidden states along random numbers. Each parameter along its own gradient, where the loss changes most.
TEST(WholeExperts, GradientsOfEveryTensor) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  for (const nlohmann::json& config : families()) {
    SCOPED_TRACE(config["model_type"].get<std::string>());
    const Model model = any_model(config);
    const std::vector<float> d = random_values(static_cast<size_t>(kRows * kC), 5);
    AdapterSet set;
    attach_dense(
        set, model, [](const std::string& name) { return name; }, true, true);
    int64_t buffers = 0;
    for (const TensorInfo& info : model.source->tensors()) buffers += info.name.ends_with("correction_bias");
    EXPECT_EQ(set.dense->in_files.size() + static_cast<size_t>(buffers), model.source->tensors().size());
    const Batch rows = batch();
    run(model, {&set}, rows, &set, d);
    double largest = 0;
    for (const float g : gradients(set)) largest = std::max(largest, std::abs(static_cast<double>(g)));
    for (const Parameter& p : set.parameters()) {
      if (p.name.starts_with("lm_head")) continue;
      const std::vector<float> before(p.value.f32(), p.value.f32() + p.value.numel()),
          g(p.gradient.f32(), p.gradient.f32() + p.value.numel());
      const double size = std::sqrt(dot(g, g));
      EXPECT_GT(size, 0) << p.name << " has no gradient";
      const auto moved = [&](double by) {
        for (size_t i = 0; i < before.size(); ++i)
          p.value.f32()[i] = static_cast<float>(static_cast<double>(before[i]) + by * static_cast<double>(g[i]) / std::max(size, 1e-12));
        return dot(run(model, {&set}, rows, nullptr, d), d);
      };
      double apart = INFINITY;  // where a step changes what a router chooses, a smaller one does not
      for (const double h : {4e-3, 1e-3, 3e-4}) apart = std::min(apart, std::abs((moved(h) - moved(-h)) / (2 * h) - size));
      moved(0);
      EXPECT_LT(apart, 4e-3 * std::max(size, largest)) << p.name;
    }
    // The same bits when layers are computed once more, and from the middle of the model upwards.
    AdapterSet again;
    attach_dense(
        again, model, [](const std::string& name) { return name; }, true, true);
    run(model, {&again}, rows, &again, d, Recompute::block);
    EXPECT_EQ(gradients(set), gradients(again));
    for (const std::string only : {"router", "gate.weight", "experts.gate_up_proj", "experts.down_proj", "gate_up_proj_bias"}) {
      AdapterSet upper;
      attach_dense(
          upper, model,
          [&](const std::string& name) {
            return name.find("layers.1.") != std::string::npos && name.find(only) != std::string::npos ? name : std::string();
          },
          true, true);
      if (!upper.dense) continue;
      run(model, {&upper}, rows, &upper, d);
      for (const Parameter& p : upper.parameters())
        for (const Parameter& q : set.parameters())
          if (p.name == q.name) {
            EXPECT_EQ(std::vector<float>(p.gradient.f32(), p.gradient.f32() + p.gradient.numel()),
                      std::vector<float>(q.gradient.f32(), q.gradient.f32() + q.gradient.numel()))
                << p.name;
          }
    }
  }
  omp_set_num_threads(threads);
}

TEST(WholeExperts, RowsOfSeveralSetsAndOfTheBaseInOneBatch) {
  for (const nlohmann::json& config : families()) {
    SCOPED_TRACE(config["model_type"].get<std::string>());
    const Model model = any_model(config);
    AdapterSet a, b;
    attach_dense(
        a, model, [](const std::string& name) { return name.find("mlp") != std::string::npos ? "x." + name : ""; }, false, true);
    attach_dense(
        b, model, [](const std::string& name) { return name.find("down_proj") != std::string::npos ? "x." + name : ""; }, false, true);
    if (!a.dense) continue;  // llama4 calls them otherwise
    for (const AdapterSet* set : {&a, &b})
      for (const Parameter& p : set->parameters())
        for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] *= set == &a ? 1.25f : 0.75f;
    Batch rows = batch();
    rows.sequences = {{0, 5, 0, 5}, {5, 6, 5, 6}, {11, kRows - 11, 11, kRows - 11}};
    const auto hidden = [&](std::vector<AdapterRows> ranges) {
      rows.adapter_rows = std::move(ranges);
      return run(model, {&a, &b}, rows, nullptr, {});
    };
    const auto mixed = hidden({{0, 5, 0}, {11, kRows - 11, 1}}), with_a = hidden({{0, kRows, 0}}), with_b = hidden({{0, kRows, 1}}),
               base = hidden({});
    const auto near = [](const std::vector<float>& x, const std::vector<float>& y, int64_t first, int64_t count) {
      double worst = 0;
      for (int64_t i = first * kC; i < (first + count) * kC; ++i)
        worst = std::max(worst, static_cast<double>(std::abs(x[static_cast<size_t>(i)] - y[static_cast<size_t>(i)])));
      return worst;
    };
    EXPECT_LT(near(mixed, with_a, 0, 5), 1e-5);
    EXPECT_LT(near(mixed, base, 5, 6), 1e-5);
    EXPECT_LT(near(mixed, with_b, 11, kRows - 11), 1e-5);
    EXPECT_GT(near(with_a, base, 0, kRows), 1e-2);
    EXPECT_GT(near(with_b, base, 0, kRows), 1e-3);
  }
}

TEST(WholeExperts, AdaptersAreAddedToTheBase) {
  for (const nlohmann::json& config : families())
    for (const bool four_bits : {false, true}) {
      SCOPED_TRACE(config["model_type"].get<std::string>());
      LoadOptions options;
      if (four_bits) options.quantisation = Quantisation{Dtype::NF4, true};
      Model model = any_model(config, options);
      LoraConfig lora;
      lora.r = 2;
      lora.init_lora_weights = "false";
      set_targets(lora, "q_proj,experts");
      AdapterSet set = attach_adapter(model, lora, false);
      start_adapter(set, model, lora, 3);
      Batch rows = batch();
      const std::vector<float> want = run(model, {&set}, rows, nullptr, {});
      const size_t bytes = model.weight_bytes();
      merge_into_base(model, set);
      rows.adapter_rows.clear();
      const std::vector<float> got = run(model, {}, rows, nullptr, {});
      double worst = 0, most = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        worst = std::max(worst, std::abs(static_cast<double>(want[i]) - static_cast<double>(got[i])));
        most = std::max(most, std::abs(static_cast<double>(want[i])));
      }
      EXPECT_LT(worst, (four_bits ? 1.0 : 2e-5) * most);
      if (!four_bits) continue;
      for (const ExpertWeights* w : model.experts())
        for (const WeightPart& part : w->stacks[0].parts) EXPECT_EQ(part.weight.dtype, Dtype::NF4);
      EXPECT_LT(model.weight_bytes(), bytes + bytes / 2);  // q alone is in full now
    }
}

}  // namespace
}  // namespace loraine::whole_experts_test
