// The measuring functions give times above zero, and the two answers about the instruction set agree.
#include "loraine/kernels/base/machine.h"

#include <gtest/gtest.h>

#include <vector>

namespace loraine::machine_test {
namespace {

TEST(Machine, TimesAndInstructionSet) {
  EXPECT_FALSE(instruction_set().empty());
  EXPECT_EQ(has_bf16_instructions(), instruction_set().find("BF16") != std::string::npos);
  EXPECT_TRUE(has_bf16_instructions() || !has_bf16_products());
  ProductTime f32 = time_library_product(33, 40, 50, false, Dtype::F32);
  EXPECT_GT(f32.wall, 0);
  EXPECT_GT(time_library_product(33, 40, 50, true, has_bf16_instructions() ? Dtype::BF16 : Dtype::F32).wall, 0);
  std::vector<float> memory(1 << 20, 1.0f);
  std::pair<const void*, int64_t> pieces[] = {{memory.data(), 4 << 20}, {memory.data(), 4096}};
  EXPECT_GT(time_plain_read(pieces).wall, 0);
}

}  // namespace
}  // namespace loraine::machine_test
