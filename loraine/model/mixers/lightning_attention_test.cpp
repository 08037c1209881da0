// Lightning attention through models of one and two layers, whose stream goes on from its norms.
#include "loraine/model/mixers/lightning_attention.h"

#include "tests/support/mixer_check.h"

namespace loraine::lightning_attention_test {
namespace {

nlohmann::json minimax(int64_t layers) {
  nlohmann::json config = one_layer("minimax", {{"num_hidden_layers", layers},
                                                {"num_local_experts", 1},
                                                {"num_experts_per_tok", 1},
                                                {"linear_attn_alpha_factor", 1.3},
                                                {"linear_attn_beta_factor", 0.7},
                                                {"full_attn_alpha_factor", 0.9},
                                                {"mlp_alpha_factor", 0.8},
                                                {"mlp_beta_factor", 1.2}});
  config["layer_types"] = layers == 1 ? nlohmann::json{"linear_attention"} : nlohmann::json{"linear_attention", "full_attention"};
  return config;
}

TEST(LightningAttention, Gradients) { expect_gradients_by_differences(minimax(1), "self_attn."); }

// Of what lies below a second layer, and of the norms' weights, which the residual passes too.
TEST(LightningAttention, GradientsThroughNormedResiduals) {
  for (const char* part : {"self_attn.", "input_layernorm", "post_attention_layernorm"}) expect_gradients_by_differences(minimax(2), part);
}

TEST(LightningAttention, PiecesAreAsTheWhole) { expect_pieces_as_whole(minimax(1)); }

}  // namespace
}  // namespace loraine::lightning_attention_test
