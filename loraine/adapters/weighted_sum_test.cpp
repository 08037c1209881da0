// Several adapters as one: what a weight gains is the weighted sum of what each gives it; those that do more are refused by name.
#include "loraine/adapters/weighted_sum.h"

#include <gtest/gtest.h>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/adapters/lora.h"
#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::weighted_sum_test {
namespace {

constexpr int64_t kIn = 7, kOut = 5;

AdapterSet made(const std::string& name, int64_t r, float scale, uint32_t seed) {
  AdapterSet set;
  set.name = name;
  auto lora = std::make_unique<Lora>(kIn, std::vector<LoraPart>{{0, 0, kOut, r, scale, "m"}}, 0.0f, 0, false);
  const std::vector<float> a = random_floats(r * kIn, seed), b = random_floats(kOut * r, seed + 1);
  std::copy(a.begin(), a.end(), lora->a(0).f32());
  std::copy(b.begin(), b.end(), lora->b(0).f32());
  set.sites.push_back(std::move(lora));
  set.sites.push_back(nullptr);
  return set;
}

std::vector<float> gain(const AdapterSet& set) {
  std::vector<float> w(static_cast<size_t>(kOut * kIn));
  Context ctx;
  set.sites[0]->merge_into(ctx, Tensor(w.data(), Dtype::F32, {kOut, kIn}), 0);
  return w;
}

TEST(WeightedSum, AddsWhatEachGives) {
  std::vector<float> base(static_cast<size_t>(kOut * kIn));
  Weight weight;
  weight.parts.emplace_back();
  weight.parts[0].weight = Tensor(base.data(), Dtype::F32, {kOut, kIn});
  const std::vector<const Weight*> sites = {&weight, &weight};
  const AdapterSet one = made("one", 2, 1.5f, 1), two = made("two", 3, 0.25f, 3);
  const AdapterSet sum = weighted_sum({{&one, 0.5f}, {&two, -2}}, sites);
  EXPECT_EQ(sum.sites[1], nullptr);
  const std::vector<float> a = gain(one), b = gain(two), both = gain(sum);
  for (size_t i = 0; i < both.size(); ++i) EXPECT_NEAR(both[i], 0.5f * a[i] - 2 * b[i], 1e-5f);
  EXPECT_EQ(gain(weighted_sum({{&one, 1}}, sites)), a);
}

TEST(WeightedSum, OfExperts) {
  std::vector<std::shared_ptr<ExpertLora>> loras;
  std::vector<AdapterSet> sets(2);
  for (uint64_t seed = 0; seed < 2; ++seed) {
    auto lora = std::make_shared<ExpertLora>(ExpertLoraShape{"x", 2, kIn, kOut, 2, 0.5f, false}, false);
    std::mt19937_64 random(seed);
    lora->initialise("false", random);
    sets[seed].experts = {lora};
    loras.push_back(std::move(lora));
  }
  const AdapterSet sum = weighted_sum({{&sets[0], 3}, {&sets[1], -0.5f}}, {});
  Context ctx;
  const auto gains = [&](const ExpertLora& lora) {
    std::vector<float> w(static_cast<size_t>(kOut * kIn));
    lora.merge_into(ctx, Tensor(w.data(), Dtype::F32, {kOut, kIn}), 1, 0, false);
    return w;
  };
  const std::vector<float> a = gains(*loras[0]), b = gains(*loras[1]), both = gains(*sum.expert(0));
  for (size_t i = 0; i < both.size(); ++i) EXPECT_NEAR(both[i], 3 * a[i] - 0.5f * b[i], 1e-5f);
}

TEST(WeightedSum, WholeTensorsAreRefusedByName) {
  AdapterSet set = made("whole", 2, 1, 1);
  set.dense = std::make_shared<DenseSet>();
  try {
    weighted_sum({{&set, 0.5f}}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::unsupported);
    EXPECT_NE(std::string(error.what()).find("whole"), std::string::npos);
  }
}

}  // namespace
}  // namespace loraine::weighted_sum_test
