// DoRA against its formula in double, with and without dropout, biases and parts that are not adapted; gradients by central differences
// with the norm held fixed; the norm against rows of W + s B A; merging.
#include "loraine/adapters/dora.h"

#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/op_check.h"

namespace loraine::dora_test {
namespace {

constexpr int64_t T = 5, kIn = 12, kRank = 3;
const std::vector<int64_t> kOuts = {9, 6, 7};  // the middle one is not adapted
constexpr int64_t kOut = 22;
constexpr float kScale = 1.5f, kDropout = 0.4f;

struct Site {
  std::vector<float> w = random_floats(kOut * kIn, 1, 0.5f), bias = random_floats(kOut, 2);
  Weight weight;
  explicit Site(bool with_bias) {
    int64_t first = 0;
    for (size_t p = 0; p < kOuts.size(); ++p) {
      WeightPart part;
      part.name = "m." + std::to_string(p);
      part.weight = Tensor(w.data() + first * kIn, Dtype::F32, {kOuts[p], kIn});
      if (with_bias) part.bias = bias.data() + first;
      weight.parts.push_back(std::move(part));
      first += kOuts[p];
    }
    if (!with_bias) bias.assign(static_cast<size_t>(kOut), 0.0f);
  }
};

std::vector<LoraPart> adapted_parts() { return {{0, 0, 9, kRank, kScale, "m.0"}, {2, 15, 7, kRank, kScale, "m.2"}}; }
bool adapted(int64_t column) { return column < 9 || column >= 15; }

// Values in double; a and b of the two adapted parts lie behind each other.
struct Reference {
  std::vector<double> w, bias, x, a, b, m, mask;
  std::vector<double> norm = {};
  // W + s B A, row by row
  double merged(int64_t o, int64_t i, bool with_base = true) const {
    double sum = with_base ? w[static_cast<size_t>(o * kIn + i)] : 0;
    if (!adapted(o)) return sum;
    const int64_t part = o < 9 ? 0 : 1, row = o < 9 ? o : o - 15, b_first = part ? 9 * kRank : 0, a_first = part * kRank * kIn;
    for (int64_t k = 0; k < kRank; ++k)
      sum +=
          static_cast<double>(kScale) * b[static_cast<size_t>(b_first + row * kRank + k)] * a[static_cast<size_t>(a_first + k * kIn + i)];
    return sum;
  }
  void set_norms() {
    norm.assign(static_cast<size_t>(kOut), 0);
    for (int64_t o = 0; o < kOut; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < kIn; ++i) sum += merged(o, i) * merged(o, i);
      norm[static_cast<size_t>(o)] = std::sqrt(sum);
    }
  }
  std::vector<double> forward() const {
    std::vector<double> y(static_cast<size_t>(T * kOut));
    for (int64_t t = 0; t < T; ++t)
      for (int64_t o = 0; o < kOut; ++o) {
        double plain = 0, base = 0, low = 0;  // W x, W x_d, s B A x_d
        for (int64_t i = 0; i < kIn; ++i) {
          const double in = x[static_cast<size_t>(t * kIn + i)], dropped = in * mask[static_cast<size_t>(t * kIn + i)];
          plain += w[static_cast<size_t>(o * kIn + i)] * in;
          base += w[static_cast<size_t>(o * kIn + i)] * dropped;
          low += merged(o, i, false) * dropped;
        }
        const double g = adapted(o) ? m[static_cast<size_t>(o)] / norm[static_cast<size_t>(o)] : 1;
        y[static_cast<size_t>(t * kOut + o)] = plain + bias[static_cast<size_t>(o)] + (g - 1) * base + (adapted(o) ? g * low : 0);
      }
    return y;
  }
};

void check(float dropout_share, bool with_bias) {
  Site site(with_bias);
  Context ctx;
  Dora dora(site.weight, adapted_parts(), dropout_share, 3, true);
  std::vector<float> x = random_floats(T * kIn, 5), r = random_floats(T * kOut, 6);
  Reference reference{doubles(site.w), doubles(site.bias), doubles(x), {}, {}, std::vector<double>(static_cast<size_t>(kOut)), {}};
  uint32_t seed = 10;
  for (const AdapterMatrices& at : dora.matrices()) {
    for (const Tensor& t : {at.a, at.b}) {
      const std::vector<float> values = random_floats(t.numel(), ++seed, 0.3f);
      std::copy(values.begin(), values.end(), t.f32());
      auto& into = &t == &at.a || t.data == at.a.data ? reference.a : reference.b;
      into.insert(into.end(), values.begin(), values.end());
    }
  }
  dora.initialise(ctx, 0);
  reference.set_norms();
  std::vector<Parameter> parameters = dora.parameters();
  for (const Parameter& p : parameters) {
    if (!p.name.ends_with("lora_magnitude_vector")) continue;
    const int64_t first = p.name.find("m.0") != std::string::npos ? 0 : 15;
    for (int64_t o = 0; o < p.value.numel(); ++o) {
      EXPECT_NEAR(p.value.f32()[o], reference.norm[static_cast<size_t>(first + o)], 1e-5);  // it starts at the norm
      p.value.f32()[o] *= 1 + 0.1f * static_cast<float>(o % 5);
      reference.m[static_cast<size_t>(first + o)] = static_cast<double>(p.value.f32()[o]);
    }
  }
  dora.refresh(ctx);
  std::vector<float> ones(static_cast<size_t>(T * kIn), 1.0f), mask = ones;
  if (dropout_share > 0) dropout(ctx, matrix(mask, T, kIn), matrix(ones, T, kIn), dropout_share, 3);
  reference.mask = doubles(mask);

  Arena scratch(1 << 16);
  std::vector<float> y(static_cast<size_t>(T * kOut)), saved(static_cast<size_t>(T * dora.saved_width())),
      d_x(static_cast<size_t>(T * kIn));
  multiply_weight(ctx, matrix(y, T, kOut), site.weight, matrix(x, T, kIn));
  dora.forward(ctx, matrix(y, T, kOut), matrix(x, T, kIn), matrix(saved, T, dora.saved_width()), true, scratch);
  expect_near(y, reference.forward(), 3e-6, "y");
  dora.site_backward(ctx, site.weight, matrix(d_x, T, kIn), matrix(r, T, kOut), matrix(x, T, kIn), matrix(saved, T, dora.saved_width()),
                     scratch);
  EXPECT_EQ(scratch.used(), 0u);
  auto loss = [&] { return inner(reference.forward(), r); };
  expect_near(d_x, central_differences(reference.x, loss), 3e-6, "d_x");
  const std::vector<double> d_a = central_differences(reference.a, loss), d_b = central_differences(reference.b, loss),
                            d_m = central_differences(reference.m, loss);
  size_t a_at = 0, b_at = 0;
  for (const Parameter& p : parameters) {
    const std::vector<float> got(p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
    auto part = [&](const std::vector<double>& of, size_t first) {
      return std::vector<double>(of.begin() + static_cast<ptrdiff_t>(first), of.begin() + static_cast<ptrdiff_t>(first + got.size()));
    };
    if (p.name.ends_with("lora_A.weight")) expect_near(got, part(d_a, a_at), 5e-6, "d_A"), a_at += got.size();
    else if (p.name.ends_with("lora_B.weight")) expect_near(got, part(d_b, b_at), 5e-6, "d_B"), b_at += got.size();
    else expect_near(got, part(d_m, p.name.find("m.0") != std::string::npos ? 0 : 15), 5e-6, "d_m");
  }
  EXPECT_EQ(a_at + b_at, reference.a.size() + reference.b.size());

  std::vector<float> merged(site.w.begin() + 15 * kIn, site.w.end());
  dora.merge_into(ctx, matrix(merged, 7, kIn), 2);
  std::vector<double> want;
  for (int64_t o = 15; o < kOut; ++o)
    for (int64_t i = 0; i < kIn; ++i)
      want.push_back(reference.merged(o, i) * reference.m[static_cast<size_t>(o)] / reference.norm[static_cast<size_t>(o)]);
  expect_near(merged, want, 2e-6, "merged");
}

TEST(Dora, FormulaAndGradients) { check(0, false); }
TEST(Dora, WithBias) { check(0, true); }
TEST(Dora, WithDropout) { check(kDropout, false); }
TEST(Dora, WithDropoutAndBias) { check(kDropout, true); }

TEST(Dora, AnswersWithoutDropoutOutsideTraining) {
  Site site(true);
  Context ctx;
  Dora with(site.weight, adapted_parts(), kDropout, 3, false), without(site.weight, adapted_parts(), 0, 3, false);
  for (Dora* one : {&with, &without}) {
    for (const AdapterMatrices& at : one->matrices())
      for (const Tensor& t : {at.a, at.b}) std::copy_n(random_floats(t.numel(), 4).begin(), t.numel(), t.f32());
    one->initialise(ctx, 0);
  }
  std::vector<float> x = random_floats(T * kIn, 5), saved(static_cast<size_t>(T * with.saved_width()));
  std::vector<float> y[2];
  Arena scratch(1 << 16);
  for (int i : {0, 1}) {
    y[i].resize(static_cast<size_t>(T * kOut));
    multiply_weight(ctx, matrix(y[i], T, kOut), site.weight, matrix(x, T, kIn));
    (i ? with : without).forward(ctx, matrix(y[i], T, kOut), matrix(x, T, kIn), matrix(saved, T, with.saved_width()), false, scratch);
  }
  EXPECT_EQ(y[0], y[1]);
}

}  // namespace
}  // namespace loraine::dora_test
