// GPTQ against what gptqmodel makes of the same matrix and Hessian (tests/golden/make_calibrated_cases.py), and against rounding to the
// nearest.
#include "loraine/quant/gptq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "loraine/io/open_tensors.h"

namespace loraine::gptq_test {
namespace {

struct RecordedMatrix {
  Buffer memory;
  Tensor tensor;
};

RecordedMatrix recorded(const TensorSource& source, const std::string& name) {
  const TensorInfo* info = source.find(name);
  const Tensor shape(nullptr, Dtype::F32, info->shape);
  RecordedMatrix matrix{Buffer(shape.bytes()), {}};
  matrix.tensor = Tensor(matrix.memory.data(), Dtype::F32, info->shape);
  source.read(*info, matrix.tensor);
  return matrix;
}

double share_of_equal(const Tensor& a, const Tensor& b) {
  int64_t equal = 0;
  for (int64_t i = 0; i < a.numel(); ++i) equal += std::abs(a.f32()[i] - b.f32()[i]) <= 1e-5f * std::abs(b.f32()[i]) + 1e-9f;
  return static_cast<double>(equal) / static_cast<double>(a.numel());
}

TEST(Gptq, GivesWhatGptqmodelGives) {
  const auto source = open_tensor_source(LORAINE_SOURCE_DIR "/tests/golden/calibrated/gptq.safetensors");
  const RecordedMatrix hessian = recorded(*source, "hessian");
  Context ctx;
  for (const int64_t bits : {2, 3, 4, 8})
    for (const bool aware : {false, true}) {
      const std::string name = (aware ? "aware_" : "plain_") + std::to_string(bits);
      SCOPED_TRACE(name);
      std::vector<int64_t> order = order_within_groups(hessian.tensor, 32);
      if (!aware)
        for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
      const InverseFactor factor = inverse_factor(ctx, hessian.tensor, 0.1, order);
      const RecordedMatrix theirs = recorded(*source, name), their_scales = recorded(*source, "scales_" + name);
      GroupScheme scheme{bits, 32, false};
      RecordedMatrix ours = recorded(*source, "weight");
      const RecordedMatrix before = recorded(*source, "weight");
      const GroupCodes codes = gptq_quantise(ctx, ours.tensor, factor, scheme);
      // Where a value lies in the middle of two codes, the last bit of the factor decides, and the rest of its row goes another way.
      EXPECT_GE(share_of_equal(ours.tensor, theirs.tensor), 0.98);
      int64_t other_scales = 0;
      for (size_t i = 0; i < codes.scales.size(); ++i)
        other_scales += std::abs(codes.scales[i] - their_scales.tensor.f32()[i]) > 1e-5f * codes.scales[i];
      EXPECT_LE(other_scales, static_cast<int64_t>(codes.scales.size()) / 50);
      const double their_error = product_error(ctx, theirs.tensor, before.tensor, hessian.tensor);
      EXPECT_NEAR(product_error(ctx, ours.tensor, before.tensor, hessian.tensor), their_error, 0.02 * their_error);
      // With scales as files hold them it is as good, and far better than each number by itself.
      scheme.f16_scales = true;
      std::copy_n(before.tensor.f32(), before.tensor.numel(), ours.tensor.f32());
      gptq_quantise(ctx, ours.tensor, factor, scheme);
      const double error = product_error(ctx, ours.tensor, before.tensor, hessian.tensor);
      EXPECT_LT(error, 1.03 * their_error);
      std::copy_n(before.tensor.f32(), before.tensor.numel(), ours.tensor.f32());
      round_to_nearest(ours.tensor, scheme);
      EXPECT_LT(error, 0.6 * product_error(ctx, ours.tensor, before.tensor, hessian.tensor));
    }
}

TEST(Gptq, FactorIsThatOfTheInverse) {
  constexpr int64_t kSize = 300;  // blocks of 128 and a rest
  Buffer memory(kSize * kSize * sizeof(float));
  const Tensor hessian(memory.data(), Dtype::F32, {kSize, kSize});
  for (int64_t i = 0; i < kSize; ++i)
    for (int64_t j = 0; j < kSize; ++j)
      hessian.f32()[i * kSize + j] =
          static_cast<float>(std::exp(-0.05 * std::abs(static_cast<double>(i - j))) * (1 + 0.01 * static_cast<double>(std::min(i, j))));
  std::vector<int64_t> order(kSize);
  for (int64_t i = 0; i < kSize; ++i) order[static_cast<size_t>(i)] = (i * 7) % kSize;
  Context ctx;
  const InverseFactor factor = inverse_factor(ctx, hessian, 0.05, order);
  double mean = 0;
  for (int64_t i = 0; i < kSize; ++i) mean += static_cast<double>(hessian.f32()[i * kSize + i]) / kSize;
  // (H + damp) Uᵀ U = 1, with Uᵀ U [i, j] = Σ_k U[k, i] U[k, j].
  std::vector<double> inverse(kSize * kSize, 0);
  for (int64_t k = 0; k < kSize; ++k)
    for (int64_t i = k; i < kSize; ++i)
      for (int64_t j = k; j < kSize; ++j)
        inverse[static_cast<size_t>(i * kSize + j)] +=
            static_cast<double>(factor.upper.f32()[k * kSize + i]) * static_cast<double>(factor.upper.f32()[k * kSize + j]);
  for (int64_t i = 0; i < kSize; i += 37)
    for (int64_t j = 0; j < kSize; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < kSize; ++k) {
        const int64_t row = order[static_cast<size_t>(i)], col = order[static_cast<size_t>(k)];
        const double h = static_cast<double>(hessian.f32()[row * kSize + col]) + (row == col ? factor.damp * mean : 0);
        sum += h * inverse[static_cast<size_t>(k * kSize + j)];
      }
      EXPECT_NEAR(sum, i == j ? 1 : 0, 2e-4);
    }
}

}  // namespace
}  // namespace loraine::gptq_test
