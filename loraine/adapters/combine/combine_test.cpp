// Adapters put together: what PEFT's add_weighted_adapter made of recorded ones (tests/golden/make_algebra_cases.py, and those of ../shared
// where they are), the rules by hand, and what is refused.
#include "loraine/adapters/combine/combine.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/adapters/combine/task_arithmetic.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/safetensors/safetensors.h"
#include "tests/support/op_check.h"

namespace loraine::combine_test {
namespace {

namespace fs = std::filesystem;
const std::string kCases = std::string(LORAINE_SOURCE_DIR) + "/tests/golden/peft/algebra";
const std::string kRecorded = std::string(LORAINE_SOURCE_DIR) + "/../shared/golden/peft/algebra";

std::vector<float> delta_of(const LowRankModule& m) {
  std::vector<float> out(static_cast<size_t>(m.out * m.in));
  for (int64_t o = 0; o < m.out; ++o)
    for (int64_t i = 0; i < m.in; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < m.r; ++k)
        sum += static_cast<double>(m.b[static_cast<size_t>(o * m.r + k)]) * static_cast<double>(m.a[static_cast<size_t>(k * m.in + i)]);
      out[static_cast<size_t>(o * m.in + i)] = static_cast<float>(m.scale * sum);
    }
  return out;
}

CombinationRecipe recipe_of(const Json& c) {
  CombinationRecipe recipe;
  recipe.type = c.value("combination_type", "svd");
  recipe.weights = c["weights"].get<std::vector<double>>();
  if (c.contains("density")) recipe.density = c["density"].get<double>();
  if (c.contains("svd_rank")) recipe.svd_rank = c["svd_rank"].get<int64_t>();
  recipe.majority_sign_method = c.value("majority_sign_method", "total");
  recipe.seed = c.value("seed", uint64_t{0});
  return recipe;
}

// Every module of a case against the recorded ΔW, and the adapter read back from files. Gives the worst error, relative to the largest
// value.
double check_case(const std::string& folder, const std::string& name, const Json& c, const TensorSource& deltas) {
  std::vector<std::string> adapters;
  for (const Json& each : c["adapters"]) adapters.push_back(folder + "/" + each.get<std::string>());
  const Combination got = combine(adapters, recipe_of(c));
  const std::string out = (fs::temp_directory_path() / ("loraine_combine_" + std::to_string(getpid()))).string();
  write_low_rank(got.written, out, true);
  const LowRankFile back(out);
  double worst = 0;
  size_t seen = 0;
  for (const TensorInfo& info : deltas.tensors()) {
    if (!info.name.starts_with(name + ".")) continue;
    ++seen;
    const LowRankPlace* place = back.find(info.name.substr(name.size() + 1));
    if (!place) {
      ADD_FAILURE() << info.name << " is missing";
      continue;
    }
    std::vector<float> want(static_cast<size_t>(info.shape[0] * info.shape[1]));
    deltas.read(info, Tensor(want.data(), Dtype::F32, info.shape));
    const std::vector<float> have = delta_of(back.read(*place));
    EXPECT_EQ(have.size(), want.size()) << info.name;
    double largest = 1e-30, apart = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(want[i])));
      apart = std::max(apart, std::abs(static_cast<double>(want[i]) - static_cast<double>(have[i])));
    }
    worst = std::max(worst, apart / largest);
  }
  EXPECT_EQ(seen, back.modules().size()) << name;
  fs::remove_all(out);
  return worst;
}

void check_folder(const std::string& folder, size_t least) {
  const Json cases = parse_json_file(folder + "/cases.json");
  const auto deltas = open_safetensors(folder + "/deltas.safetensors");
  EXPECT_GE(cases.size(), least);
  for (const auto& [name, c] : cases.items()) {
    Json whole = c;
    // the older recording has the type in the case's name
    if (!whole.contains("combination_type")) whole["combination_type"] = name == "m_ties_frequency" ? "ties" : name.substr(2);
    const double worst = check_case(folder, name, whole, *deltas);
    EXPECT_LT(worst, 4e-6) << name;
    testing::Test::RecordProperty(name, fmt::format("{:.2g}", worst));
  }
}

TEST(Combine, EqualsPeft) { check_folder(kCases, 14); }

TEST(Combine, EqualsTheLargerRecording) {
  if (!fs::exists(kRecorded)) GTEST_SKIP() << "no ../shared";
  check_folder(kRecorded, 8);
}

TEST(Combine, LargestAreKept) {
  std::vector<float> x = {3, -1, 2, -2, 0, 0.5f};
  keep_largest(x, 0.5);  // 3, 2 and, of two equal ones, the first
  EXPECT_EQ(x, (std::vector<float>{3, 0, 2, -2, 0, 0}));
  keep_largest(x, 0.34);  // ⌊2.04⌋
  EXPECT_EQ(x, (std::vector<float>{3, 0, 2, 0, 0, 0}));
  keep_largest(x, 1);
  EXPECT_EQ(x, (std::vector<float>{3, 0, 2, 0, 0, 0}));
}

// torch.manual_seed(42); torch.bernoulli(torch.full((12,), 0.37))
TEST(Combine, MasksAreTorchs) {
  std::vector<float> x(12, 1);
  std::mt19937 random(42);
  keep_at_random(x, 0.37, random);
  std::vector<int> mask;
  for (const float v : x) mask.push_back(v != 0);
  EXPECT_EQ(mask, (std::vector<int>{0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0}));
  EXPECT_FLOAT_EQ(*std::max_element(x.begin(), x.end()), 1 / 0.37f);
}

// In expectation a random mask changes nothing: the mean over many seeds comes near the sum without one.
TEST(Combine, RandomMasksKeepTheMean) {
  const std::vector<float> one = random_floats(40, 1), two = random_floats(40, 2);
  std::vector<double> mean(40);
  constexpr int kDraws = 4000;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::vector<std::vector<float>> tensors = {one, two};
    std::mt19937 random(static_cast<uint32_t>(draw));
    const std::vector<float> sum = merged_tensor(tensors, {0.5f, -1}, {MergeRule::dare_linear, 0.5}, random);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += static_cast<double>(sum[i]) / kDraws;
  }
  for (size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(mean[i], 0.5 * static_cast<double>(one[i]) - static_cast<double>(two[i]), 0.15) << i;
}

TEST(Combine, TiesByHand) {
  std::vector<std::vector<float>> tensors = {{1, -3, 2, 0}, {2, 1, -2, 0}, {-4, 1, 0.5f, 0}};
  std::mt19937 random;
  std::vector<std::vector<float>> again = tensors;
  EXPECT_EQ(merged_tensor(tensors, {1, 1, 0.5f}, {MergeRule::ties, 1}, random), (std::vector<float>{-2, -3, 1.125f, 0}));
  EXPECT_EQ(merged_tensor(again, {1, 1, 0.5f}, {MergeRule::ties, 1, true}, random), (std::vector<float>{1.5f, 0.75f, 1.125f, 0}));
}

std::string refused(const std::vector<std::string>& adapters, const CombinationRecipe& recipe) {
  try {
    combine(adapters, recipe);
  } catch (const Error& error) { return error.what(); }
  return "";
}

TEST(Combine, WhatDoesNotFitIsNamed) {
  const std::string one = kCases + "/one", two = kCases + "/two", wide = kCases + "/wide";
  EXPECT_NE(refused({one, two}, {"linear", {1}}).find("1 value for 2 adapters"), std::string::npos);
  EXPECT_NE(refused({one, wide}, {"linear", {1, 1}}).find("ranks differ"), std::string::npos);
  EXPECT_NE(refused({one, two}, {"ties", {1, 1}}).find("needs density"), std::string::npos);
  EXPECT_NE(refused({one, two}, {"cat", {1, 1}, 0.5}).find("keeps all values"), std::string::npos);
  EXPECT_NE(refused({one, two}, {"ties", {1, 1}, 0.0}).find("density is 0"), std::string::npos);
  EXPECT_NE(refused({one, two}, {"mean", {1, 1}}).find("combination_type is mean"), std::string::npos);
  EXPECT_NE(refused({one, two}, {"cat", {1, 1}, {}, "total", 4}).find("svd_rank"), std::string::npos);
  EXPECT_NE(refused({one, two}, {"ties", {1, 1}, 0.5, "most"}).find("majority_sign_method"), std::string::npos);
  EXPECT_NE(refused({one, kCases}, {"cat", {1, 1}}).find("adapter_config.json"), std::string::npos);
}

TEST(Combine, AnAdapterThatIsMoreIsRefusedByName) {
  const fs::path folder = fs::temp_directory_path() / ("loraine_combine_more_" + std::to_string(getpid()));
  for (const auto& [key, value, word] : {std::tuple<const char*, Json, const char*>{"use_dora", true, "use_dora"},
                                         {"init_lora_weights", "pissa", "pissa"},
                                         {"r", 5, "rank 3"},
                                         {"target_modules", Json::array({"q_proj"}), "does not target"}}) {
    fs::remove_all(folder);
    fs::copy(kCases + "/one", folder);
    Json config = parse_json_file((folder / "adapter_config.json").string());
    config[key] = value;
    write_file((folder / "adapter_config.json").string(), config.dump());
    EXPECT_NE(refused({folder.string(), kCases + "/two"}, {"cat", {1, 1}}).find(word), std::string::npos) << key;
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace loraine::combine_test
