// The MLP whose activation has learned, through a model of one layer.
#include "loraine/model/mixers/mlp.h"

#include "tests/support/mixer_check.h"

namespace loraine::mlp_test {
namespace {

TEST(Mlp, LearnedActivationHasGradients) { expect_gradients_by_differences(one_layer("apertus", {{"intermediate_size", 40}}), "mlp."); }

}  // namespace
}  // namespace loraine::mlp_test
