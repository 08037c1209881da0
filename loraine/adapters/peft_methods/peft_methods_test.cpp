// Cayley's transform and its gradient against differences, LoKr's and OFT's sizes as PEFT has them, keys that are wrong, and the config of
// each method written and read again. What the methods compute is held against PEFT in model/peft_methods_test.cpp.
#include <fstream>

#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/peft_methods/cayley.h"
#include "loraine/adapters/peft_methods/lokr.h"
#include "loraine/adapters/peft_methods/oft.h"
#include "tests/support/op_check.h"

namespace loraine::peft_methods_unit_test {
namespace {

constexpr int64_t B = 5, kNumbers = B * (B - 1) / 2;

std::vector<double> transform(const std::vector<double>& v, int64_t terms) {
  const std::vector<float> numbers(v.begin(), v.end());
  std::vector<float> r(static_cast<size_t>(B * B));
  cayley(r.data(), numbers.data(), B, terms);
  return {r.begin(), r.end()};
}

TEST(Cayley, ExactIsOrthogonalAndTheSeriesComesNear) {
  const std::vector<double> v = doubles(random_floats(kNumbers, 1, 0.05f));
  const std::vector<double> exact = transform(v, 0);
  std::vector<double> minus = v;
  for (double& x : minus) x = -x;
  const std::vector<double> other = transform(minus, 0), series = transform(v, 9);
  for (int64_t i = 0; i < B; ++i)
    for (int64_t j = 0; j < B; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < B; ++k) sum += exact[static_cast<size_t>(i * B + k)] * exact[static_cast<size_t>(j * B + k)];
      EXPECT_NEAR(sum, i == j ? 1 : 0, 1e-6);
      EXPECT_NEAR(series[static_cast<size_t>(i * B + j)], other[static_cast<size_t>(i * B + j)], 1e-5);  // they turn the other way round
    }
}

TEST(Cayley, Gradients) {
  for (const int64_t terms : {0, 1, 2, 3, 4, 5, 8}) {
    std::vector<double> v = doubles(random_floats(kNumbers, 2, 0.3f));
    const std::vector<float> g = random_floats(B * B, 3), numbers(v.begin(), v.end());
    std::vector<float> r(static_cast<size_t>(B * B)), d_v(static_cast<size_t>(kNumbers));
    cayley(r.data(), numbers.data(), B, terms);
    cayley_backward(d_v.data(), g.data(), r.data(), numbers.data(), B, terms);
    const std::vector<double> want = central_differences(
        v, [&] { return inner(transform(v, terms), g); }, 1e-2);
    for (size_t i = 0; i < d_v.size(); ++i) EXPECT_NEAR(d_v[i], want[i], 5e-3) << terms << " " << i;
  }
}

TEST(PeftMethods, Sizes) {
  EXPECT_EQ(nearest_divisor(24, 9), 8);  // 8 is as near as 12 is far
  EXPECT_EQ(nearest_divisor(24, 7), 6);  // of two as near the smaller
  EXPECT_EQ(nearest_divisor(40, 64), 40);
  EXPECT_EQ(nearest_divisor(40, 12), 10);
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_EQ(kronecker_factors(256, -1), Pair(16, 16));
  EXPECT_EQ(kronecker_factors(128, -1), Pair(8, 16));
  EXPECT_EQ(kronecker_factors(127, -1), Pair(1, 127));
  EXPECT_EQ(kronecker_factors(128, 4), Pair(4, 32));
  EXPECT_EQ(kronecker_factors(4, 64), Pair(2, 2));
}

LoraConfig read_text(const std::string& text) {
  const std::string folder = testing::TempDir() + "peft_method";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/adapter_config.json") << text;
  return read_lora_config(folder);
}

std::string refusal(const std::string& text) {
  try {
    read_text(text);
  } catch (const Error& error) { return error.what(); }
  return "";
}

TEST(PeftMethods, WrongKeysAreNamed) {
  const auto has = [](const std::string& text, const std::string& words) {
    EXPECT_NE(refusal(text).find(words), std::string::npos) << text << ": " << refusal(text);
  };
  has(R"({"peft_type": "XLORA"})", "peft_type is \"XLORA\"");
  has(R"({"peft_type": "LILY"})", "Lily mixes its B by a mean over all tokens of a batch");
  has(R"({"peft_type": "OFT", "r": 8})", "oft_block_size is not given");
  has(R"({"peft_type": "OFT", "r": 8, "oft_block_size": 32})", "oft_block_size is 32");
  has(R"({"peft_type": "OFT", "r": 0, "oft_block_size": "all"})", "oft_block_size is \"all\", expected an integer");
  has(R"({"peft_type": "VERA", "r": 4, "save_projection": false})", "save_projection is false");
  has(R"({"peft_type": "LOHA", "r": 0})", "r is 0, expected an integer from 1");
  has(R"({"peft_type": "GRALORA", "r": 6, "gralora_k": 4})", "gralora_k is 4, expected a number that divides r, which is 6");
  has(R"({"peft_type": "FOURIERFT", "n_frequency_pattern": {"q_proj": 0}})", "n_frequency_pattern is {\"q_proj\":0}");
  has(R"({"peft_type": "BOFT", "boft_block_size": 4, "boft_block_num": 2})", "boft_block_size is 4");
  has(R"({"peft_type": "RANDLORA", "r": 4, "save_projection": false})", "save_projection is false");
  has(R"({"peft_type": "LOKR", "decompose_factor": 0})", "decompose_factor is 0");
  has(R"({"peft_type": "LOKR", "rank_dropout": 1.0})", "rank_dropout is 1.0");
  has(R"({"peft_type": "IA3", "feedforward_modules": [3]})", "feedforward_modules is [3]");
  has(R"({"peft_type": "MISS", "init_weights": 1})", "init_weights is 1");
  has(R"({"peft_type": "C3A", "block_size_pattern": [2]})", "block_size_pattern is [2]");
  has(R"({"peft_type": "HIRA", "rank_pattern": {"q_proj": 2}})", "rank_pattern is");
  has(R"({"peft_type": "SHIRA", "mask_type": "mine"})", "mask_type is");
  EXPECT_EQ(read_text(R"({"peft_type": "IA3", "brand_new": 3})").unknown_keys.size(), 1u);
}

TEST(PeftMethods, ConfigsAreWrittenAsTheyWereRead) {
  for (
      const char* text :
      {R"({"peft_type": "OFT", "r": 3, "oft_block_size": 0, "block_share": true, "use_cayley_neumann": false, "bias": "oft_only", "target_modules": ["q_proj"]})",
       R"({"peft_type": "IA3", "target_modules": ["v_proj", "fc2"], "feedforward_modules": ["fc2"]})",
       R"({"peft_type": "MISS", "r": 6, "mini_r": 4, "init_weights": "mini", "miss_dropout": 0.5, "bias": "MiSS_only", "target_modules": ["q_proj"]})",
       R"({"peft_type": "C3A", "block_size": 16, "block_size_pattern": {"o_proj": 4}, "init_weights": true, "target_modules": ["q_proj"]})",
       R"({"peft_type": "HIRA", "r": 6, "hira_dropout": 0.5, "init_weights": "gaussian", "layers_to_transform": [1], "target_modules": ["q_proj"]})",
       R"({"peft_type": "SHIRA", "r": 6, "random_seed": 3, "init_weights": false, "target_modules": ["q_proj"]})",
       R"({"peft_type": "VERA", "r": 16, "vera_dropout": 0.5, "d_initial": 0.25, "target_modules": ["q_proj"]})",
       R"({"peft_type": "GRALORA", "r": 6, "alpha": 5, "hybrid_r": 2, "gralora_k": 3, "gralora_dropout": 0.25, "bias": "gralora_only", "target_modules": ["q_proj"]})",
       R"({"peft_type": "RANDLORA", "r": 6, "randlora_alpha": 9, "randlora_dropout": 0.25, "very_sparse": true, "projection_prng_key": 4, "target_modules": ["q_proj"]})",
       R"({"peft_type": "FOURIERFT", "n_frequency": 12, "n_frequency_pattern": {"q_proj": 3}, "scaling": 9.5, "random_loc_seed": 3, "init_weights": true, "exclude_modules": ["v_proj"], "target_modules": ["q_proj"]})",
       R"({"peft_type": "BOFT", "boft_block_size": 0, "boft_block_num": 2, "boft_n_butterfly_factor": 2, "boft_dropout": 0.5, "bias": "boft_only", "target_modules": ["q_proj"]})",
       R"({"peft_type": "LOHA", "r": 3, "alpha": 5, "rank_pattern": {"q_proj": 2}, "target_modules": ["q_proj"]})",
       R"({"peft_type": "LOKR", "r": 3, "alpha": 5, "decompose_both": true, "decompose_factor": 4, "target_modules": ["q_proj"]})"}) {
    const nlohmann::json given = nlohmann::json::parse(text), written = nlohmann::json(peft_config(read_text(text)));
    for (const auto& [key, value] : given.items()) EXPECT_EQ(written.value(key, nlohmann::json()), value) << key << " of " << text;
    EXPECT_EQ(nlohmann::json(peft_config(read_text(written.dump()))), written);
    const bool excludes = find_peft_type(given["peft_type"].get<std::string>())->excludes;  // whether PEFT's config has such a key
    EXPECT_EQ(written.contains("exclude_modules"), excludes) << text;
  }
}

}  // namespace
}  // namespace loraine::peft_methods_unit_test
