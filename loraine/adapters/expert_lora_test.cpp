// LoRA on experts: what is merged is what products gain, both of PEFT's orders, several at once.
#include "loraine/adapters/expert_lora.h"

#include <gtest/gtest.h>

#include <cmath>

#include "loraine/adapters/attach.h"

namespace loraine::expert_lora_test {
namespace {

constexpr int64_t kE = 3, kIn = 6, kOut = 8, kR = 2;

std::unique_ptr<ExpertLora> random_lora(bool a_gives_output, uint64_t seed, float scale = 0.5f) {
  auto lora = std::make_unique<ExpertLora>(ExpertLoraShape{"x", kE, kIn, kOut, kR, scale, a_gives_output}, false);
  std::mt19937_64 random(seed);
  lora->initialise("false", random);
  return lora;
}

// scale · up down of expert e, [out, in]
std::vector<double> change(const ExpertLora& lora, int64_t e) {
  const ExpertFactors& f = lora.factors();
  const int64_t r = f.rank();
  std::vector<double> w(static_cast<size_t>(kOut * kIn));
  for (int64_t o = 0; o < kOut; ++o)
    for (int64_t i = 0; i < kIn; ++i)
      for (int64_t k = 0; k < r; ++k)
        w[static_cast<size_t>(o * kIn + i)] += static_cast<double>(f.scale) * static_cast<double>(f.up.f32()[(e * kOut + o) * r + k]) *
                                               static_cast<double>(f.down.f32()[(e * r + k) * kIn + i]);
  return w;
}

TEST(ExpertLora, MergesAsProductsGain) {
  for (const bool a_gives_output : {false, true})
    for (const bool transposed : {false, true}) {
      const auto lora = random_lora(a_gives_output, 1);
      const int64_t first = 2, n = 5, rows = transposed ? kIn : n, cols = transposed ? n : kIn;
      Context ctx;
      for (int64_t e = 0; e < kE; ++e) {
        std::vector<float> w(static_cast<size_t>(rows * cols), 1);
        lora->merge_into(ctx, Tensor(w.data(), Dtype::F32, {rows, cols}), e, first, transposed);
        const std::vector<double> want = change(*lora, e);
        const MergeRow exact = lora->exact_merge(e, first, n, transposed), of_all = lora->exact_merge(-1, first, n, transposed);
        for (int64_t row = 0; row < rows; ++row) {
          std::vector<double> one(static_cast<size_t>(cols), 1), other = one;
          const double error = exact(one, row);
          of_all(other, e * rows + row);
          EXPECT_EQ(one, other);
          for (int64_t col = 0; col < cols; ++col) {
            const double wanted = 1 + want[static_cast<size_t>(transposed ? (first + col) * kIn + row : (first + row) * kIn + col)];
            EXPECT_NEAR(one[static_cast<size_t>(col)], wanted, 1e-12);
            EXPECT_NEAR(static_cast<double>(w[static_cast<size_t>(row * cols + col)]), wanted, error + 1e-7);
          }
        }
      }
    }
}

TEST(ExpertLora, ReadsTheOtherOrder) {
  for (const bool a_gives_output : {false, true}) {
    const auto other = random_lora(!a_gives_output, 2), lora = random_lora(a_gives_output, 3);
    const std::vector<Parameter> file = other->parameters();
    lora->take_other_order(file[0].value, file[1].value);
    for (int64_t e = 0; e < kE; ++e) EXPECT_EQ(change(*lora, e), change(*other, e));
    lora->refresh();  // the parameters say the same
    for (int64_t e = 0; e < kE; ++e) EXPECT_EQ(change(*lora, e), change(*other, e));
  }
}

TEST(ExpertLora, GradientsComeInPeftsOrder) {
  ExpertLora lora({"x", kE, kIn, kOut, kR, 1, false}, true);
  for (int64_t i = 0; i < lora.gradients().up.numel(); ++i) lora.gradients().up.f32()[i] = static_cast<float>(i);
  lora.finish_gradients();
  const Tensor d_b = lora.parameters()[1].gradient;
  for (int64_t e = 0; e < kE; ++e)
    for (int64_t o = 0; o < kOut; ++o)
      for (int64_t k = 0; k < kR; ++k) EXPECT_EQ(d_b.f32()[o * kR * kE + k * kE + e], static_cast<float>((e * kOut + o) * kR + k));
  for (int64_t i = 0; i < lora.gradients().up.numel(); ++i) EXPECT_EQ(lora.gradients().up.f32()[i], 0);
}

TEST(ExpertLora, SeveralAsOne) {
  const auto one = random_lora(false, 4), other = random_lora(false, 5, 3);
  const auto joined = join({one.get(), other.get()}, {1.0f, 1.0f});
  joined->refresh();
  for (int64_t e = 0; e < kE; ++e) {
    const std::vector<double> a = change(*one, e), b = change(*other, e), sum = change(*joined, e);
    for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(sum[i], a[i] + b[i], 1e-6);
  }
}

TEST(ExpertLora, WordsOfTargets) {
  LoraConfig config;
  set_targets(config, "all,experts");
  EXPECT_EQ(config.target_modules, std::vector<std::string>{kAllLinear});
  name_experts(config,
               {"model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj", "model.layers.1.mlp.experts.down_proj"});
  EXPECT_EQ(config.target_parameters, (std::vector<std::string>{"experts.gate_up_proj", "experts.down_proj"}));
  EXPECT_TRUE(parameter_rank(config, "model.layers.1.mlp.experts.down_proj"));
  EXPECT_FALSE(parameter_rank(config, "model.layers.1.mlp.down_proj"));
  set_targets(config, "q_proj,experts.down_proj");
  EXPECT_EQ(config.target_modules, std::vector<std::string>{"q_proj"});
  EXPECT_EQ(config.target_parameters, std::vector<std::string>{"experts.down_proj"});
  set_targets(config, "all");
  EXPECT_TRUE(config.target_parameters.empty());
}

}  // namespace
}  // namespace loraine::expert_lora_test
