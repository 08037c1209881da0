#include "loraine/io/fresh_weights.h"

#include <gtest/gtest.h>

#include <cmath>

namespace loraine::fresh_weights_test {
namespace {

class Shapes : public TensorSource {
 public:
  std::vector<TensorInfo> all = {{"a.bias", Dtype::F32, {8}}, {"a.weight", Dtype::F32, {64, 100}}, {"norm.weight", Dtype::F32, {8}}};
  const std::vector<TensorInfo>& tensors() const override { return all; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo&, const Tensor&) const override { FAIL() << "the old values are not looked at"; }
};

std::vector<float> values(const TensorSource& source, const char* name) {
  const TensorInfo& info = *source.find(name);
  int64_t n = 1;
  for (const int64_t size : info.shape) n *= size;
  std::vector<float> out(static_cast<size_t>(n));
  source.read(info, Tensor(out.data(), Dtype::F32, info.shape));
  return out;
}

TEST(FreshWeights, AreWhatAModelStartsWith) {
  ModelFiles files;
  files.tensors = std::make_shared<Shapes>();
  files.config = {{"initializer_range", 0.05}};
  const auto source = fresh_weights(files, files.tensors->tensors(), 42);
  EXPECT_EQ(values(*source, "a.bias"), std::vector<float>(8, 0.0f));
  EXPECT_EQ(values(*source, "norm.weight"), std::vector<float>(8, 1.0f));
  const std::vector<float> matrix = values(*source, "a.weight");
  double mean = 0, square = 0;
  for (const float v : matrix) mean += v / 6400, square += static_cast<double>(v) * v / 6400;
  EXPECT_NEAR(mean, 0, 0.003);
  EXPECT_NEAR(std::sqrt(square), 0.05, 0.002);
  EXPECT_EQ(matrix, values(*fresh_weights(files, files.tensors->tensors(), 42), "a.weight"));
  EXPECT_NE(matrix, values(*fresh_weights(files, files.tensors->tensors(), 43), "a.weight"));
}

}  // namespace
}  // namespace loraine::fresh_weights_test
