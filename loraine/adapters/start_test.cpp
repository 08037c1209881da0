// Starts: their moments, what they do to the base, and what PEFT's PiSSA and OLoRA left of a recorded model.
#include "loraine/adapters/start.h"

#include <filesystem>

#include "loraine/adapters/peft_files.h"
#include "loraine/core/error.h"
#include "loraine/io/safetensors/safetensors.h"
#include "tests/support/op_check.h"
#include "tests/support/recorded_base.h"

namespace loraine::start_test {
namespace {

constexpr int64_t kIn = 24, kQ = 16, kK = 8;

// One layer's q and k over weights in memory.
struct Base {
  std::vector<float> w;
  std::vector<Weight> weights = std::vector<Weight>(1);
  explicit Base(uint32_t seed = 1) : w(random_floats((kQ + kK) * kIn, seed)) {
    int64_t first = 0;
    for (const auto& [name, rows] : {std::pair{"model.layers.0.self_attn.q_proj", kQ}, {"model.layers.0.self_attn.k_proj", kK}}) {
      WeightPart part;
      part.name = name;
      part.weight = Tensor(w.data() + first * kIn, Dtype::F32, {rows, kIn});
      weights[0].parts.push_back(std::move(part));
      first += rows;
    }
  }
  std::vector<const Weight*> sites() const { return {&weights[0]}; }
  std::vector<Weight*> sites_to_change() { return {&weights[0]}; }
};

LoraConfig config_of(const std::string& init, int64_t r = 4) {
  LoraConfig config;
  config.r = r;
  config.lora_alpha = 6;
  config.init_lora_weights = init;
  config.target_modules = {"q_proj", "k_proj"};
  return config;
}

double size_of_product(const AdapterMatrices& m) {
  double most = 0;
  for (int64_t o = 0; o < m.b.rows(); ++o)
    for (int64_t i = 0; i < m.a.cols(); ++i) {
      double sum = 0;
      for (int64_t k = 0; k < m.part.r; ++k)
        sum += static_cast<double>(m.b.f32()[o * m.part.r + k]) * static_cast<double>(m.a.f32()[k * m.a.cols() + i]);
      most = std::max(most, std::abs(sum));
    }
  return most;
}

double deviation(const Tensor& t) {
  double squares = 0;
  for (int64_t i = 0; i < t.numel(); ++i) squares += static_cast<double>(t.f32()[i]) * static_cast<double>(t.f32()[i]);
  return std::sqrt(squares / static_cast<double>(t.numel()));
}

TEST(Start, RandomStartsBeginAtTheBase) {
  for (const char* init : {"true", "gaussian", "orthogonal"}) {
    Base base;
    const std::vector<float> before = base.w;
    LoraConfig config = config_of(init);
    AdapterSet set = attach_lora(base.sites(), config, true);
    start_adapter(set, base.sites_to_change(), config, 5);
    EXPECT_EQ(base.w, before);
    for (const AdapterMatrices& m : set.sites[0]->matrices()) {
      EXPECT_LT(size_of_product(m), 1e-6) << init;
      EXPECT_GT(deviation(m.a), 1e-3);
      if (std::string(init) == "orthogonal") EXPECT_GT(deviation(m.b), 1e-3);
      else EXPECT_EQ(deviation(m.b), 0);
      if (std::string(init) == "gaussian") {
        EXPECT_NEAR(deviation(m.a), 0.25, 0.06);  // 1 / r
      }
      if (std::string(init) == "true") { EXPECT_NEAR(deviation(m.a), 1 / std::sqrt(3.0 * kIn), 0.03); }
    }
  }
  Base base;
  AdapterSet set = attach_lora(base.sites(), config_of("orthogonal", 3), true);
  EXPECT_THROW(start_adapter(set, base.sites_to_change(), config_of("orthogonal", 3), 5), Error);
}

TEST(Start, KnowsItsNames) {
  for (const char* good : {"true", "false", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_16", "pissa_niter_0", "loftq"})
    EXPECT_TRUE(known_start(good)) << good;
  for (const char* bad :
       {"", "mica", "pissa_niter_", "pissa_niter_x", "pissa_niter_-1", "pissa_niter_16 ", "pissa_niter_99999999999999999999", "loft"})
    EXPECT_FALSE(known_start(bad)) << bad;
}

// W = rest + s B A, whichever way it is loaded.
TEST(Start, WhatLeavesTheBaseIsInTheAdapter) {
  for (const char* init : {"pissa", "olora", "pissa_niter_16"})
    for (bool dora : {false, true}) {
      Base whole, changed;
      LoraConfig config = config_of(init);
      config.use_dora = dora;
      AdapterSet set = attach_lora(changed.sites(), config, true), start = attach_lora(whole.sites(), config, false);
      start_adapter(set, changed.sites_to_change(), config, 5);
      init_lora(start, whole.sites(), config, 99);  // another seed finds the same
      for (size_t i = 0; i < 2; ++i) EXPECT_GT(deviation(changed.weights[0].parts[i].weight), 0.1);
      Base merged;
      for (size_t i = 0; i < 2; ++i) merged.weights[0].parts[i].weight = changed.weights[0].parts[i].weight;
      merge_into_weights(merged.sites_to_change(), set);
      for (size_t i = 0; i < 2; ++i) {
        const Tensor now = merged.weights[0].parts[i].weight, then = whole.weights[0].parts[i].weight;
        expect_near(std::vector<float>(now.f32(), now.f32() + now.numel()), std::vector<float>(then.f32(), then.f32() + then.numel()), 2e-6,
                    init);
      }
      // trained a little, then over the whole base
      for (const Parameter& p : set.parameters())
        for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] += 0.05f * static_cast<float>(i % 3);
      Context ctx;
      set.refresh(ctx);
      LoraConfig doubled = config;
      Base other;
      const AdapterSet over = over_whole_base(set, start, other.sites(), doubled);
      EXPECT_EQ(doubled.r, 8);
      EXPECT_EQ(doubled.lora_alpha, 12);
      EXPECT_EQ(doubled.init_lora_weights, "true");
      merge_into_weights(other.sites_to_change(), over);
      merge_into_weights(changed.sites_to_change(), set);
      for (size_t i = 0; i < 2; ++i) {
        const Tensor one = other.weights[0].parts[i].weight, two = changed.weights[0].parts[i].weight;
        expect_near(std::vector<float>(one.f32(), one.f32() + one.numel()), std::vector<float>(two.f32(), two.f32() + two.numel()), 3e-6,
                    init);
      }
    }
}

TEST(Start, RefusesToDoublePatternsUnderRslora) {
  Base base;
  LoraConfig config = config_of("pissa");
  config.use_rslora = true;
  config.rank_pattern = {{"q_proj", 2}};
  AdapterSet set = attach_lora(base.sites(), config, false);
  EXPECT_THROW(over_whole_base(set, set, base.sites(), config), Error);
}

// What PEFT's base became, from the recorded model and the recorded config. torch's f32 SVD is itself up to 1e-5 away from the same in
// double.
TEST(Start, ChangesTheBaseAsPeft) {
  const std::string golden = std::string(LORAINE_SOURCE_DIR) + "/../shared/golden/peft/";
  if (!std::filesystem::exists(golden + "variants/pissa"))
    GTEST_SKIP() << golden << " is not there, so its recorded cases are not compared";
  for (const std::string method : {"pissa", "olora"}) {
    const std::string folder = golden + "variants/" + method;
    const auto after = open_safetensors(folder + "/base_after.safetensors");
    const auto init = open_safetensors(folder + "/init/adapter_model.safetensors");
    const LoraConfig config = read_lora_config(folder + "/init");
    RecordedBase base(golden + "llama/model");
    ASSERT_EQ(base.weights.size(), 14u);
    AdapterSet set = attach_lora(base.sites(), config, true);
    start_adapter(set, base.sites_to_change(), config, 1);
    for (const Weight& weight : base.weights) {
      const WeightPart& part = weight.parts[0];
      const TensorInfo* info = after->find(part.name + ".base_layer.weight");
      ASSERT_NE(info, nullptr) << part.name;
      std::vector<float> want(static_cast<size_t>(part.weight.numel()));
      after->read(*info, Tensor(want.data(), Dtype::F32, info->shape));
      expect_near(std::vector<float>(part.weight.f32(), part.weight.f32() + part.weight.numel()), want, 2e-5,
                  (method + " " + part.name).c_str());
    }
    if (method != "olora") continue;  // the signs of singular vectors are free, those of QR are LAPACK's
    for (const Parameter& p : set.parameters()) {
      std::vector<float> want(static_cast<size_t>(p.value.numel()));
      init->read(*init->find(p.name), Tensor(want.data(), Dtype::F32, {p.value.rows(), p.value.cols()}));
      expect_near(std::vector<float>(p.value.f32(), p.value.f32() + p.value.numel()), want, 1e-5, p.name.c_str());
    }
  }
}

}  // namespace
}  // namespace loraine::start_test
