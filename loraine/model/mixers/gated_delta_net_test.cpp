// Gated delta nets through a model of one layer.
#include "loraine/model/mixers/gated_delta_net.h"

#include "tests/support/mixer_check.h"

namespace loraine {
namespace {

nlohmann::json qwen3_5() {
  return one_layer("qwen3_5_text", {{"layer_types", {"linear_attention"}},
                                    {"linear_num_key_heads", 2},
                                    {"linear_num_value_heads", 4},
                                    {"linear_key_head_dim", 6},
                                    {"linear_value_head_dim", 10},
                                    {"partial_rotary_factor", 0.5}});
}

TEST(GatedDeltaNet, Gradients) { expect_gradients_by_differences(qwen3_5(), "linear_attn."); }

TEST(GatedDeltaNet, PiecesAreAsTheWhole) { expect_pieces_as_whole(qwen3_5()); }

}  // namespace
}  // namespace loraine
