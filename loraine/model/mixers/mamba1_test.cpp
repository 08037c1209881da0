// Jamba's Mamba through a model of one layer; its A_log and D are not trained.
#include "loraine/model/mixers/mamba1.h"

#include "loraine/core/error.h"
#include "tests/support/mixer_check.h"

namespace loraine {
namespace {

nlohmann::json jamba() {
  return one_layer("jamba",
                   {{"attn_layer_offset", 1}, {"num_experts", 1}, {"mamba_d_state", 6}, {"mamba_dt_rank", 5}, {"mamba_proj_bias", true}});
}

TEST(Mamba1, Gradients) {
  for (const char* part : {"in_proj", "x_proj", "dt_proj", "out_proj", "conv1d", "dt_layernorm", "b_layernorm", "c_layernorm"})
    expect_gradients_by_differences(jamba(), std::string("mamba.") + part);
  EXPECT_THROW(expect_gradients_by_differences(jamba(), "mamba.A_log"), Error);
}

TEST(Mamba1, PiecesAreAsTheWhole) { expect_pieces_as_whole(jamba()); }

}  // namespace
}  // namespace loraine
