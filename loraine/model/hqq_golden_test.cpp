// Codes, scales, zeros and dequantised weights against HQQ's own (tests/golden/make_hqq_cases.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "loraine/core/grouped_codes.h"
#include "loraine/core/packed.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/tensors/tensor_source.h"
#include "loraine/quant/quantise.h"

namespace loraine::hqq_golden_test {
namespace {

std::vector<float> values_of(const TensorSource& source, const std::string& name) {
  const TensorInfo* info = source.find(name);
  if (!info) return {};
  const Tensor mapped = source.map(*info);
  std::vector<float> values(static_cast<size_t>(mapped.numel()));
  convert(values.data(), Dtype::F32, mapped.data, mapped.dtype, mapped.numel());
  return values;
}

TEST(HqqGolden, SmallMatrices) {
  const auto source = open_tensor_source(std::string(LORAINE_SOURCE_DIR) + "/tests/golden/hqq/cases.safetensors");
  int cases = 0;
  for (const TensorInfo& info : source->tensors()) {
    long long index = 0, bits = 0, axis = 0, group_size = 0;
    if (std::sscanf(info.name.c_str(), "%lld_%lld_%lld_%lld.codes", &index, &bits, &axis, &group_size) != 4 ||
        !info.name.ends_with(".codes"))
      continue;
    const std::string name = info.name.substr(0, info.name.rfind('.'));
    const Tensor weight = source->map(*source->find("weight." + std::to_string(index)));
    const auto* codes = static_cast<const uint8_t*>(source->map(info).data);
    const std::vector<float> scales = values_of(*source, name + ".scale"), zeros = values_of(*source, name + ".zero"),
                             dequantised = values_of(*source, name + ".dequantised");
    Quantisation how{codes_of_bits(bits), false, false, group_size, axis};
    const QuantisedWeight ours = quantise(weight, how, Dtype::F32);
    for (int64_t i = 0; i < weight.numel(); ++i)
      ASSERT_EQ(code_value(how.type, static_cast<const uint8_t*>(ours.weight.data), i), static_cast<float>(codes[i])) << name << " " << i;
    const GroupedCodes& g = *ours.state->groups;
    for (size_t i = 0; i < scales.size(); ++i) {
      EXPECT_EQ(g.scale(static_cast<int64_t>(i)), scales[i]) << name << " " << i;
      EXPECT_NEAR(g.zero_of(static_cast<int64_t>(i)), zeros[i], 1e-6 * (1 + std::fabs(zeros[i]))) << name << " " << i;
    }
    std::vector<float> values(dequantised.size());
    unpack(values.data(), ours.weight);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], dequantised[i], 3e-6 * std::fabs(dequantised[i]) + 1e-7) << name;
    EXPECT_EQ(quantisation_of(ours.weight).group_size, group_size);
    EXPECT_EQ(quantisation_of(ours.weight).axis, axis);
    ++cases;
  }
  EXPECT_EQ(cases, 20);
}

}  // namespace
}  // namespace loraine::hqq_golden_test
