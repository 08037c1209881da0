// Activations on the GPU against double, their slopes against differences of that, and all of it against the CPU's ops.
#include "loraine/kernels/activations/activations_cuda.h"
#include "loraine/kernels/activations/swiglu.h"
#include "tests/support/gpu_check.h"

namespace loraine::activation_cuda_test {
namespace {

const ActivationShape kShapes[] = {{Activation::silu},  {Activation::gelu_tanh}, {Activation::gelu_erf},
                                   {Activation::relu2}, {Activation::relu},      {Activation::xielu, 0.3f, -0.7f}};

double softplus_of(double x) { return std::log1p(std::exp(x)); }

double value_of(const ActivationShape& shape, double x) {
  switch (shape.kind) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::relu2: return x > 0 ? x * x : 0;
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::xielu: break;
  }
  if (x > 0) return softplus_of(shape.alpha_p) * x * x + 0.5 * x;
  return (0.5 + softplus_of(shape.alpha_n)) * (std::expm1(std::min(x, -1e-6)) - x) + 0.5 * x;
}
double slope_of(const ActivationShape& shape, double x) { return (value_of(shape, x + 1e-5) - value_of(shape, x - 1e-5)) / 2e-5; }

TEST(ActivationCuda, PlainAndGated) {
  for (const ActivationShape& shape : kShapes)
    for (Dtype type : {Dtype::F32, Dtype::BF16})
      for (auto [T, F, pad] : {std::tuple<int64_t, int64_t, int64_t>{3, 40, 0}, {2, 2056, 8}, {2, 37, 3}}) {
        const double tolerance = type == Dtype::F32 ? 2e-6 : 4e-3;
        const size_t n = static_cast<size_t>(T * F), width = static_cast<size_t>(F);
        std::vector<float> gate_up = as_stored(random_floats(T * 2 * F, 1, 2), type), d_h = as_stored(random_floats(T * F, 2), type), x(n);
        std::vector<double> h(n), d_x(n), gated(n), d_gate_up(2 * n);
        for (size_t i = 0; i < n; ++i) {
          const size_t g = i / width * 2 * width + i % width, u = g + width;
          x[i] = gate_up[g];
          h[i] = value_of(shape, x[i]), d_x[i] = d_h[i] * slope_of(shape, x[i]);
          gated[i] = h[i] * gate_up[u], d_gate_up[g] = d_x[i] * gate_up[u], d_gate_up[u] = d_h[i] * h[i];
        }
        DeviceMatrix gx(type, T, F, x, pad), gh(type, T, F, {}, pad), gdh(type, T, F, d_h, pad), gg(type, T, 2 * F, gate_up, pad),
            gdx(type, T, F, {}, pad);
        expect_near(in_all_orders([&](GpuStream& s) {
                      activate_cuda(s, gh.tensor(), gx.tensor(), shape);
                      return gh.get(s);
                    }),
                    h, tolerance, "h");
        expect_near(in_all_orders([&](GpuStream& s) {
                      activate_backward_cuda(s, gdx.tensor(), gdh.tensor(), gx.tensor(), shape);
                      return gdx.get(s);
                    }),
                    d_x, tolerance, "d_x");
        expect_near(in_all_orders([&](GpuStream& s) {
                      gated_activate_cuda(s, gh.tensor(), gg.tensor(), shape);
                      return gh.get(s);
                    }),
                    gated, tolerance, "gated h");
        expect_near(in_all_orders([&](GpuStream& s) {
                      gg.reset(s);
                      gated_activate_backward_cuda(s, gg.tensor(), gdh.tensor(), gg.tensor(), shape);  // in place
                      return gg.get(s);
                    }),
                    d_gate_up, tolerance, "d_gate_up");
        expect_near(in_all_orders([&](GpuStream& s) {
                      gg.reset(s);
                      gh.reset(s);
                      gated_activate_backward_cuda(s, gg.tensor(), gdh.tensor(), gg.tensor(), shape, gh.tensor());
                      return gh.get(s);
                    }),
                    gated, tolerance, "h of the gradient");
        std::vector<float> cpu_h(n), cpu_d(2 * n);
        Context ctx;
        gated_activate(ctx, matrix(cpu_h, T, F), matrix(gate_up, T, 2 * F), shape);
        gated_activate_backward(ctx, matrix(cpu_d, T, 2 * F), matrix(d_h, T, F), matrix(gate_up, T, 2 * F), shape);
        GpuStream s;
        gg.reset(s);
        gated_activate_cuda(s, gh.tensor(), gg.tensor(), shape);
        expect_near(gh.get(s), cpu_h, tolerance, "h as on the CPU");
        gated_activate_backward_cuda(s, gg.tensor(), gdh.tensor(), gg.tensor(), shape);
        expect_near(gg.get(s), cpu_d, tolerance, "d_gate_up as on the CPU");
      }
}

TEST(ActivationCuda, FarAway) {  // nothing becomes NaN
  const std::vector<float> x = {-1000, -90, -20, -1e-7f, 0, 1e-7f, 20, 90, 1000, 3e38f};
  const int64_t n = static_cast<int64_t>(x.size());
  for (const ActivationShape& shape : kShapes) {
    if (shape.kind == Activation::relu2 || shape.kind == Activation::xielu) continue;  // their squares overflow
    DeviceMatrix gx(Dtype::F32, 1, n, x), gh(Dtype::F32, 1, n), ones(Dtype::F32, 1, n, std::vector<float>(x.size(), 1.0f));
    GpuStream s;
    activate_cuda(s, gh.tensor(), gx.tensor(), shape);
    const std::vector<float> h = gh.get(s);
    activate_backward_cuda(s, gh.tensor(), ones.tensor(), gx.tensor(), shape);
    const std::vector<float> slopes = gh.get(s);
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(h[i], value_of(shape, x[i]), 1e-6 * (1 + std::abs(x[i])));
      EXPECT_TRUE(std::isfinite(slopes[i])) << x[i];
    }
  }
}

TEST(ActivationCuda, XieluSlopes) {
  const int64_t T = 3;
  for (int64_t F : {41, 1040})
    for (Dtype type : {Dtype::F32, Dtype::BF16}) {
      std::vector<float> x = as_stored(random_floats(T * F, 1), type), d_h = as_stored(random_floats(T * F, 2), type), cpu(2 * T);
      Context ctx;
      xielu_slopes(ctx, matrix(cpu, T, 2), matrix(d_h, T, F), matrix(x, T, F));
      DeviceMatrix gx(type, T, F, x), gd(type, T, F, d_h), sums(Dtype::F32, T, 2);
      expect_near(in_all_orders([&](GpuStream& s) {
                    xielu_slopes_cuda(s, sums.tensor(), gd.tensor(), gx.tensor());
                    return sums.get(s);
                  }),
                  cpu, 2e-6, "sums");
    }
}

}  // namespace
}  // namespace loraine::activation_cuda_test
