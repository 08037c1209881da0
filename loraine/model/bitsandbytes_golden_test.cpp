// Codes, scales and dequantised weights against bitsandbytes' own, recorded. Of ../shared/golden/peft/quantisation where it is there, and
// of tests/golden/peft/quantisation always.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "loraine/core/packed.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/tensors/tensor_source.h"
#include "loraine/quant/bitsandbytes.h"

namespace loraine::bitsandbytes_golden_test {
namespace {

namespace fs = std::filesystem;
const fs::path kSource = LORAINE_SOURCE_DIR;

struct Recorded {
  std::unique_ptr<TensorSource> source;
  Tensor get(const std::string& name) const {
    const TensorInfo* info = source->find(name);
    return info ? source->map(*info) : Tensor();
  }
};

template <class T>
void expect_same(const Tensor& want, const T* have, int64_t n, const std::string& name) {
  ASSERT_TRUE(want.data) << name;
  ASSERT_EQ(want.numel(), n) << name;
  if (std::memcmp(want.data, have, static_cast<size_t>(n) * sizeof(T)) == 0) return;
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(static_cast<const T*>(want.data)[i], have[i]) << name << " at " << i;
}

void check_four_bits(const Recorded& r, const std::string& prefix, const Tensor& weight, Quantisation how) {
  const QuantisedWeight q = quantise(weight, how, weight.dtype);
  const QuantState& s = *q.state;
  expect_same(r.get(prefix + ".codes"), static_cast<const uint8_t*>(s.codes), weight.numel() / 2, prefix + ".codes");
  if (how.nested) {
    expect_same(r.get(prefix + ".absmax"), s.absmax_codes, block_count(weight), prefix + ".absmax");
    expect_same(r.get(prefix + ".nested_absmax"), s.nested_absmax, (block_count(weight) + 255) / 256, prefix + ".nested_absmax");
    expect_same(r.get(prefix + ".nested_code"), s.nested_map, 256, prefix + ".nested_code");
    expect_same(r.get(prefix + ".offset"), &s.offset, 1, prefix + ".offset");
  } else {
    expect_same(r.get(prefix + ".absmax"), s.absmax, block_count(weight), prefix + ".absmax");
  }
  const Tensor dequantised = r.get(prefix + ".dequantised");
  std::vector<float> values(static_cast<size_t>(weight.numel())), want(values.size());
  unpack(values.data(), q.weight);
  convert(want.data(), Dtype::F32, dequantised.data, dequantised.dtype, weight.numel());
  EXPECT_EQ(values, want) << prefix;
}

int check_file(const fs::path& file) {
  const Recorded r{open_tensor_source(file.string())};
  int cases = 0;
  for (const TensorInfo& info : r.source->tensors()) {
    if (!info.name.ends_with(".weight")) continue;
    const std::string name = info.name.substr(0, info.name.size() - 7);
    const Tensor weight = r.source->map(info);
    for (const auto& [type, text] : {std::pair{Dtype::NF4, ".nf4"}, {Dtype::FP4, ".fp4"}})
      for (bool nested : {false, true}) {
        if (!r.get(name + text + (nested ? ".nested" : "") + ".codes").data) continue;
        check_four_bits(r, name + text + (nested ? ".nested" : ""), weight, {type, nested});
        ++cases;
      }
    if (r.get(name + ".int8.codes").data) {
      const QuantisedWeight q = quantise(weight, {Dtype::INT8, false}, weight.dtype);
      expect_same(r.get(name + ".int8.codes"), static_cast<const int8_t*>(q.state->codes), weight.numel(), name + ".int8.codes");
      expect_same(r.get(name + ".int8.scale"), q.state->row_absmax, weight.rows(), name + ".int8.scale");
      ++cases;
    }
  }
  return cases;
}

TEST(BitsandbytesGolden, CommittedCases) { EXPECT_GE(check_file(kSource / "tests/golden/peft/quantisation/cases.safetensors"), 9); }

TEST(BitsandbytesGolden, SharedCases) {
  const fs::path file = kSource / "../shared/golden/peft/quantisation/cases.safetensors";
  if (!fs::exists(file)) GTEST_SKIP() << "no recorded cases at ../shared/golden/peft/quantisation";
  EXPECT_GE(check_file(file), 20);
}

}  // namespace
}  // namespace loraine::bitsandbytes_golden_test
