// Blocks as gpt-oss has them: taken apart exactly, and refused where the scales are of another shape.
#include "loraine/io/quantised/mxfp4_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine::mxfp4_source_test {
namespace {

constexpr int64_t kExperts = 2, kOut = 3, kGroups = 2, kIn = kGroups * 32;

struct Checkpoint {
  std::vector<uint8_t> blocks, scales;
  std::vector<int64_t> scales_shape = {kExperts, kOut, kGroups};
  float bias = 3;
  std::string file = (std::filesystem::temp_directory_path() / "loraine_mxfp4_source_test.safetensors").string();

  Checkpoint() : blocks(static_cast<size_t>(kExperts * kOut * kGroups * 16)), scales(static_cast<size_t>(kExperts * kOut * kGroups)) {
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<uint8_t>(i * 37 + 11);
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<uint8_t>(120 + i);
  }
  std::unique_ptr<TensorSource> open() {
    write_safetensors(file,
                      {{"mlp.experts.down_proj_blocks", Tensor(blocks.data(), Dtype::U8, {kExperts, kOut, kGroups, 16})},
                       {"mlp.experts.down_proj_scales", Tensor(scales.data(), Dtype::U8, scales_shape)},
                       {"mlp.router.bias", Tensor(&bias, Dtype::F32, {1})}},
                      {});
    return with_mxfp4(open_safetensors(file));
  }
};

TEST(Mxfp4Source, ValuesAreExactAndTransposed) {
  Checkpoint checkpoint;
  const auto source = checkpoint.open();
  ASSERT_EQ(source->tensors().size(), 2u);
  const TensorInfo* info = source->find("mlp.experts.down_proj");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->shape, (std::vector<int64_t>{kExperts, kIn, kOut}));
  EXPECT_EQ(info->dtype, Dtype::BF16);
  std::vector<float> values(static_cast<size_t>(kExperts * kIn * kOut));
  source->read(*info, Tensor(values.data(), Dtype::F32, info->shape));
  std::vector<uint16_t> narrow(values.size());
  source->read(*info, Tensor(narrow.data(), Dtype::BF16, info->shape));
  const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (int64_t e = 0; e < kExperts; ++e)
    for (int64_t i = 0; i < kIn; ++i)
      for (int64_t o = 0; o < kOut; ++o) {
        const int64_t block = (e * kOut + o) * kGroups + i / 32;
        const uint8_t two = checkpoint.blocks[static_cast<size_t>(block * 16 + i % 32 / 2)], code = i % 2 ? two >> 4 : two & 15;
        const double value =
            magnitudes[code & 7] * (code & 8 ? -1 : 1) * std::pow(2.0, checkpoint.scales[static_cast<size_t>(block)] - 127);
        const size_t at = static_cast<size_t>((e * kIn + i) * kOut + o);
        EXPECT_EQ(static_cast<double>(values[at]), value);
        float widened = 0;
        convert(&widened, Dtype::F32, &narrow[at], Dtype::BF16, 1);
        EXPECT_EQ(static_cast<double>(widened), value);
      }
}

TEST(Mxfp4Source, CodesStayWhereTheyLie) {
  Checkpoint checkpoint;
  const auto source = checkpoint.open();
  const TensorInfo* info = source->find("mlp.experts.down_proj");
  const std::vector<StackPiece> columns = source->map_pieces(*info);
  ASSERT_EQ(columns.size(), 1u);
  const Tensor& rows = columns[0].rows;
  EXPECT_EQ(rows.dtype, Dtype::MXFP4_CODES);
  EXPECT_EQ(rows.shape_text(), "[2, 3, 64]");
  EXPECT_EQ(columns[0].first, 0);
  EXPECT_EQ(columns[0].step, 1);
  EXPECT_EQ(std::memcmp(rows.data, checkpoint.blocks.data(), checkpoint.blocks.size()), 0);
  std::vector<float> transposed(static_cast<size_t>(kExperts * kIn * kOut)), values(transposed.size());
  source->read(*info, Tensor(transposed.data(), Dtype::F32, info->shape));
  unpack(values.data(), rows);
  for (int64_t e = 0; e < kExperts; ++e)
    for (int64_t i = 0; i < kIn; ++i)
      for (int64_t o = 0; o < kOut; ++o)
        EXPECT_EQ(values[static_cast<size_t>((e * kOut + o) * kIn + i)], transposed[static_cast<size_t>((e * kIn + i) * kOut + o)]);
  EXPECT_TRUE(source->map_pieces(*source->find("mlp.router.bias")).empty());
}

TEST(Mxfp4Source, ScalesMustFit) {
  Checkpoint checkpoint;
  checkpoint.scales_shape = {kExperts, kOut * kGroups};
  try {
    checkpoint.open();
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    EXPECT_NE(std::string(error.what()).find("mlp.experts.down_proj_scales"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace loraine::mxfp4_source_test
