// Gated delta nets through a model of one layer.
#include "loraine/model/mixers/gated_delta_net.h"

#include "tests/support/mixer_check.h"

namespace loraine::gated_delta_net_test {
namespace {

nlohmann::json qwen3_5() {
  return one_layer("qwen3_5_text", {{"layer_types", {"linear_attention"}},
                                    {"linear_num_key_heads", 2},
                                    {"linear_num_value_heads", 4},
                                    {"linear_key_head_dim", 6},
                                    {"linear_value_head_dim", 10},
                                    {"partial_rotary_factor", 0.5}});
}

nlohmann::json olmo() {
  return one_layer("olmo_hybrid", {{"layer_types", {"linear_attention"}},
                                   {"linear_num_key_heads", 2},
                                   {"linear_num_value_heads", 2},
                                   {"linear_key_head_dim", 6},
                                   {"linear_value_head_dim", 10}});
}

nlohmann::json kimi() {
  return one_layer("kimi_linear", {{"layer_types", {"linear_attention"}},
                                   {"mlp_layer_types", {"dense"}},
                                   {"linear_num_heads", 2},
                                   {"linear_head_dim", 6},
                                   {"kv_lora_rank", 8},
                                   {"qk_nope_head_dim", 8},
                                   {"qk_rope_head_dim", 4},
                                   {"v_head_dim", 6},
                                   {"num_experts", 2},
                                   {"num_experts_per_token", 1},
                                   {"moe_intermediate_size", 8}});
}

TEST(GatedDeltaNet, Gradients) {
  for (const nlohmann::json& config : {qwen3_5(), olmo()}) expect_gradients_by_differences(config, "linear_attn.");
  expect_gradients_by_differences(kimi(), "self_attn.");
}

TEST(GatedDeltaNet, PiecesAreAsTheWhole) {
  for (const nlohmann::json& config : {qwen3_5(), olmo(), kimi()}) expect_pieces_as_whole(config);
}

}  // namespace
}  // namespace loraine::gated_delta_net_test
