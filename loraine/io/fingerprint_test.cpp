// What a fingerprint sees, and what it does not.
#include "loraine/io/fingerprint.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace loraine::fingerprint_test {
namespace {

// Matrices in memory.
class Matrices : public TensorSource {
 public:
  void add(const std::string& name, Dtype dtype, std::vector<int64_t> shape, const std::vector<float>& values) {
    Buffer memory(values.size() * size_of(dtype));
    convert(memory.data(), dtype, values.data(), Dtype::F32, static_cast<int64_t>(values.size()));
    infos_.push_back({name, dtype, std::move(shape), name_of(dtype), "memory"});
    memory_.push_back(std::move(memory));
  }
  void pack_last() { infos_.back().packed = Dtype::Q8_0; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override {
    return Tensor(memory_[static_cast<size_t>(&info - infos_.data())].data(), info.dtype, info.shape);
  }
  void read(const TensorInfo&, const Tensor&) const override {}

 private:
  std::vector<TensorInfo> infos_;
  std::vector<Buffer> memory_;
};

std::vector<float> ramp(float first, size_t count = 48) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i));
  return values;
}

std::string of(const std::function<void(Matrices&)>& fill) {
  Matrices matrices;
  fill(matrices);
  return weights_fingerprint(matrices);
}

TEST(Fingerprint, SeesNamesShapesAndNumbers) {
  const auto plain = [](Matrices& m) { m.add("a.weight", Dtype::F32, {4, 12}, ramp(1)); };
  const std::string base = of(plain);
  EXPECT_EQ(base.size(), 32u);
  EXPECT_EQ(base, of(plain));
  EXPECT_NE(base, of([](Matrices& m) { m.add("b.weight", Dtype::F32, {4, 12}, ramp(1)); }));
  EXPECT_NE(base, of([](Matrices& m) { m.add("a.weight", Dtype::F32, {12, 4}, ramp(1)); }));
  EXPECT_NE(base, of([](Matrices& m) { m.add("a.weight", Dtype::F32, {4, 12}, ramp(2)); }));
}

TEST(Fingerprint, AWiderTypeIsTheSame) {
  EXPECT_EQ(of([](Matrices& m) {
              m.add("a.weight", Dtype::F32, {4, 12}, ramp(1));
            }),
            of([](Matrices& m) {
              m.add("a.weight", Dtype::BF16, {4, 12}, ramp(1));
            }));
}

TEST(Fingerprint, TheHeadMayBeTiedOrStored) {
  EXPECT_EQ(of([](Matrices& m) {
              m.add("a.weight", Dtype::F32, {4, 12}, ramp(1));
            }),
            of([](Matrices& m) {
              m.add("a.weight", Dtype::F32, {4, 12}, ramp(1));
              m.add("lm_head.weight", Dtype::F32, {4, 12}, ramp(5));
            }));
}

TEST(Fingerprint, PackedOnesHaveNone) {
  EXPECT_EQ(of([](Matrices& m) {
              m.add("a.weight", Dtype::F32, {4, 12}, ramp(1));
              m.add("b.weight", Dtype::F32, {4, 12}, ramp(1));
              m.pack_last();
            }),
            "");
  EXPECT_EQ(of([](Matrices&) {}), "");
}

}  // namespace
}  // namespace loraine::fingerprint_test
