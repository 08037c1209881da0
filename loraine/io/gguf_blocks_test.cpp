// Blocks of every type of ggml that weights are read in, against what the package gguf makes of them
// (tests/golden/make_gguf_block_cases.py).
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "loraine/core/packed.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine::gguf_blocks_test {
namespace {

uint64_t fnv(const std::vector<float>& values) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(float); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  return hash;
}

TEST(GgufBlocks, AreUnpackedToTheBitsOfTheGgufPackage) {
  const auto recorded = open_safetensors(LORAINE_SOURCE_DIR "/tests/golden/gguf/blocks.safetensors");
  int types = 0;
  for (uint32_t number = 0; number < 64; ++number) {
    const GgmlType* type = ggml_type(number);
    if (!type || !type->weight || !is_packed(*type->weight)) continue;
    ++types;
    const std::string name = type->name;
    EXPECT_EQ(name, name_of(*type->weight));
    const TensorInfo *blocks = recorded->find(name + ".blocks"), *values = recorded->find(name + ".values"),
                     *hash = recorded->find(name + ".hash");
    ASSERT_TRUE(blocks && values && hash) << name;
    const auto [elements, bytes] = block_of(*type->weight);
    EXPECT_EQ(elements, type->block) << name;
    EXPECT_EQ(bytes, type->block_bytes) << name;
    ASSERT_EQ(blocks->shape[1], bytes) << name;
    std::vector<float> out(static_cast<size_t>(blocks->shape[0] * elements));
    unpack(out.data(), recorded->map(*blocks).data, *type->weight, static_cast<int64_t>(out.size()));
    const Tensor first = recorded->map(*values);
    for (int64_t i = 0; i < first.numel(); ++i) ASSERT_EQ(out[static_cast<size_t>(i)], first.f32()[i]) << name << " " << i;
    uint64_t want = 0;
    std::memcpy(&want, recorded->map(*hash).data, sizeof want);
    EXPECT_EQ(fnv(out), want) << name;
  }
  EXPECT_EQ(types, static_cast<int>(Dtype::NF4) - static_cast<int>(Dtype::Q4_0));
}

}  // namespace
}  // namespace loraine::gguf_blocks_test
