// LFM2's convolution through a model of one layer.
#include "loraine/model/mixers/short_conv.h"

#include "tests/support/mixer_check.h"

namespace loraine::short_conv_test {
namespace {

nlohmann::json lfm2(bool bias) { return one_layer("lfm2", {{"layer_types", {"conv"}}, {"conv_bias", bias}, {"block_multiple_of", 8}}); }

TEST(ShortConv, Gradients) {
  for (const bool bias : {false, true}) expect_gradients_by_differences(lfm2(bias), "conv.");
}

TEST(ShortConv, PiecesAreAsTheWhole) { expect_pieces_as_whole(lfm2(true)); }

}  // namespace
}  // namespace loraine::short_conv_test
