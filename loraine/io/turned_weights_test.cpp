// Matrices of named modules are shown transposed, and written as they were.
#include <gtest/gtest.h>

#include <algorithm>

#include "loraine/io/tensors/turned_source.h"
#include "loraine/io/weight_files.h"

namespace loraine::turned_weights_test {
namespace {

class Stored final : public TensorSource {
 public:
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo& info) const override {
    return Tensor(const_cast<float*>(values_.data()), Dtype::F32, std::span<const int64_t>(info.shape));
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    ASSERT_EQ(out.numel(), Tensor(nullptr, Dtype::F32, info.shape).numel());
    std::copy_n(values_.data(), out.numel(), out.f32());
  }

 private:
  std::vector<TensorInfo> all_ = {{"h.0.c_fc.bias", Dtype::F32, {3}, "F32", ""},
                                  {"h.0.c_fc.weight", Dtype::F32, {2, 3}, "F32", ""},
                                  {"wte.weight", Dtype::F32, {3, 2}, "F32", ""}};
  std::vector<float> values_ = {1, 2, 3, 4, 5, 6};
};

TEST(TurnedSource, ShowsAndWritesBack) {
  const auto source = turned_source(std::make_shared<Stored>(), {"c_fc"});
  const TensorInfo* info = source->find("h.0.c_fc.weight");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(source->map(*info).data, nullptr);
  std::vector<float> out(6);
  source->read(*info, Tensor(out.data(), Dtype::F32, {3, 2}));
  EXPECT_EQ(out, (std::vector<float>{1, 4, 2, 5, 3, 6}));
  for (const char* other : {"h.0.c_fc.bias", "wte.weight"}) {
    const TensorInfo* same = source->find(other);
    ASSERT_TRUE(same);
    EXPECT_EQ(same->shape[0], 3);
    EXPECT_NE(source->map(*same).data, nullptr);
  }

  const WeightToWrite back = turned(stored_weight(*source, *info));
  EXPECT_EQ(back.entry.shape, (std::vector<int64_t>{2, 3}));
  std::vector<float> written;
  back.write([&](const void* bytes, size_t count) {
    const float* values = static_cast<const float*>(bytes);
    written.insert(written.end(), values, values + count / sizeof(float));
  });
  EXPECT_EQ(written, (std::vector<float>{1, 2, 3, 4, 5, 6}));
}

}  // namespace
}  // namespace loraine::turned_weights_test
