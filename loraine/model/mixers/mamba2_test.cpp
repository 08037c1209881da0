// Mamba-2 through a model of one layer: the gate before the norm and after it, without a norm, with multipliers and biases.
#include "loraine/model/mixers/mamba2.h"

#include "loraine/core/error.h"
#include "tests/support/mixer_check.h"

namespace loraine::mamba2_test {
namespace {

nlohmann::json mamba(const char* model_type, const nlohmann::json& own) {
  nlohmann::json config = one_layer(
      model_type, {{"layer_types", {"mamba"}}, {"mamba_n_heads", 6}, {"mamba_d_head", 8}, {"mamba_n_groups", 2}, {"mamba_d_state", 10}});
  config.update(own);
  return config;
}

std::vector<nlohmann::json> forms() {
  const nlohmann::json multipliers = {0.9, 0.8, 1.1, 0.7, 1.2};
  return {mamba("bamba", {{"mamba_proj_bias", true}}),
          mamba("falcon_h1", {{"mamba_d_ssm", 48}, {"mamba_rms_norm", false}, {"ssm_multipliers", multipliers}}),
          mamba("falcon_h1", {{"mamba_d_ssm", 48}, {"mamba_rms_norm", true}, {"mamba_conv_bias", false}, {"time_step_limit", {0.3, 0.9}}})};
}

TEST(Mamba2, Gradients) {
  for (const nlohmann::json& config : forms()) expect_gradients_by_differences(config, "mamba.");
}

TEST(Mamba2, PiecesAreAsTheWhole) {
  for (const nlohmann::json& config : forms()) expect_pieces_as_whole(config);
}

TEST(Mamba2, OutputIsNoTargetWherePeftRefusesIt) {
  const Model falcon = any_model(mamba("falcon_h1", {{"mamba_d_ssm", 48}})),
              bamba = any_model(mamba("bamba", {{"mamba_proj_bias", false}}));
  const auto names = [](const Model& model, const char* target) {
    LoraConfig config;
    set_targets(config, target);
    const std::vector<std::string> lines = name_targets(config, model);
    return std::pair(config.target_modules, lines.size());
  };
  const auto has = [](const std::vector<std::string>& all) { return std::ranges::find(all, "out_proj") != all.end(); };
  EXPECT_FALSE(has(names(falcon, "all").first));
  EXPECT_EQ(names(falcon, "all").second, 1u);
  EXPECT_TRUE(has(names(bamba, "all").first));
  EXPECT_EQ(names(bamba, "all").second, 0u);
  EXPECT_EQ(names(falcon, "in_proj").second, 0u);
  EXPECT_THROW(names(falcon, "in_proj,out_proj"), Error);
}

}  // namespace
}  // namespace loraine::mamba2_test
