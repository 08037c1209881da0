// Jamba's Mamba through a model of one layer.
#include "loraine/model/mixers/mamba1.h"

#include "tests/support/mixer_check.h"

namespace loraine::mamba1_test {
namespace {

nlohmann::json jamba() {
  return one_layer("jamba",
                   {{"attn_layer_offset", 1}, {"num_experts", 1}, {"mamba_d_state", 6}, {"mamba_dt_rank", 5}, {"mamba_proj_bias", true}});
}

TEST(Mamba1, Gradients) { expect_gradients_by_differences(jamba(), "mamba."); }

TEST(Mamba1, PiecesAreAsTheWhole) { expect_pieces_as_whole(jamba()); }

}  // namespace
}  // namespace loraine::mamba1_test
