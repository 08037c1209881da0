// The norms on the GPU against double, and against the CPU's ops: vectors and odd widths, strided rows, each type, offsets and absent
// weights.
#include "loraine/kernels/norms/norms_cuda.h"

#include "loraine/kernels/norms/layer_norm.h"
#include "loraine/kernels/norms/rms_norm.h"
#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/gpu_check.h"

namespace loraine::norms_cuda_test {
namespace {

constexpr float kEps = 1e-5f;
constexpr Dtype kTypes[] = {Dtype::F32, Dtype::BF16};

struct NormCase {
  int64_t T, C, pad;
  float offset;
  bool weight;
};
const NormCase kNormCases[] = {{5, 64, 0, 0, true}, {3, 40, 8, 1, true},   {2, 33, 3, 0, true},
                               {1, 1, 0, 1, false}, {3, 1032, 0, 0, true}, {2, 2600, 24, 0, false}};

double rounding(Dtype dtype) { return dtype == Dtype::F32 ? 2e-6 : 4e-3; }

// Both norms and their gradients with respect to x in double.
struct NormReference {
  std::vector<double> y, d_x, mean, rstd;
  NormReference(const std::vector<float>& x, const std::vector<float>& d_y, const std::vector<float>& weight, const NormCase& c,
                bool centred) {
    y.resize(x.size()), d_x.resize(x.size());
    const size_t C = static_cast<size_t>(c.C);
    for (size_t t = 0; t < static_cast<size_t>(c.T); ++t) {
      const size_t at = t * C;
      double m = 0, squares = 0, sum = 0, dot = 0;
      for (size_t i = 0; i < C && centred; ++i) m += x[at + i] / static_cast<double>(C);
      for (size_t i = 0; i < C; ++i) squares += (x[at + i] - m) * (x[at + i] - m);
      const double r = 1 / std::sqrt(squares / static_cast<double>(C) + kEps);
      auto factor = [&](size_t i) { return c.weight ? static_cast<double>(c.offset) + weight[i] : 1.0; };
      for (size_t i = 0; i < C; ++i) {
        y[at + i] = (x[at + i] - m) * r * factor(i);
        sum += d_y[at + i] * factor(i), dot += d_y[at + i] * factor(i) * (x[at + i] - m) * r;
      }
      for (size_t i = 0; i < C; ++i)
        d_x[at + i] = r * (d_y[at + i] * factor(i) - (centred ? sum / static_cast<double>(C) : 0) -
                           (x[at + i] - m) * r * dot / static_cast<double>(C));
      mean.push_back(m), rstd.push_back(r);
    }
  }
};

std::vector<double> plus(std::vector<double> a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST(NormsCuda, RmsNorm) {
  for (const NormCase& c : kNormCases)
    for (Dtype out : kTypes)
      for (Dtype in : kTypes) {
        const std::vector<float> x = as_stored(random_floats(c.T * c.C, 1), in), d_y = as_stored(random_floats(c.T * c.C, 2), out),
                                 weight = random_floats(c.C, 3), before = as_stored(random_floats(c.T * c.C, 4), in);
        const NormReference want(x, d_y, weight, c, false);
        DeviceMatrix gx(in, c.T, c.C, x, c.pad), gdy(out, c.T, c.C, d_y, c.pad), gw(Dtype::F32, 1, c.C, weight),
            gy(out, c.T, c.C, {}, c.pad), gr(Dtype::F32, c.T, 1, {}, 1), gdx(in, c.T, c.C, before, c.pad);
        const Tensor w = c.weight ? gw.tensor() : Tensor();
        const std::vector<float> got = in_all_orders([&](GpuStream& s) {
          rms_norm_cuda(s, gy.tensor(), gr.tensor(), gx.tensor(), w, kEps, c.offset);
          return joined(gy.get(s), gr.get(s));
        });
        const size_t n = x.size();
        std::vector<float> y(got.begin(), got.begin() + static_cast<int64_t>(n)), rstd(got.begin() + static_cast<int64_t>(n), got.end());
        expect_near(y, want.y, rounding(out), "y");
        expect_near(rstd, want.rstd, 1e-6, "rstd");
        EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                    rms_norm_rebuild_cuda(s, gy.tensor(), gx.tensor(), gr.tensor(), w, c.offset);
                    return gy.get(s);
                  }),
                  y);
        for (bool accumulate : {false, true}) {
          const std::vector<float> d_x = in_all_orders([&](GpuStream& s) {
            gdx.reset(s);
            rms_norm_backward_cuda(s, gdx.tensor(), gdy.tensor(), gx.tensor(), gr.tensor(), w, accumulate, c.offset);
            return gdx.get(s);
          });
          if (c.C > 1) expect_near(d_x, accumulate ? plus(want.d_x, before) : want.d_x, rounding(in), "d_x");
        }
        // With the rounding of a gradient in F32, and what the norm gave.
        DeviceMatrix sum(Dtype::F32, c.T, c.C, before, c.pad), rounded(in, c.T, c.C, {}, c.pad), h(in, c.T, c.C, {}, c.pad);
        const std::vector<float> all = in_all_orders([&](GpuStream& s) {
          sum.reset(s);
          rms_norm_backward_cuda(s, sum.tensor(), gdy.tensor(), gx.tensor(), gr.tensor(), w, true, c.offset, rounded.tensor(), h.tensor());
          return joined(sum.get(s), joined(rounded.get(s), h.get(s)));
        });
        const std::vector<float> d_x(all.begin(), all.begin() + static_cast<int64_t>(n));
        if (c.C > 1) expect_near(d_x, plus(want.d_x, before), rounding(Dtype::F32), "d_x of F32");
        EXPECT_EQ(std::vector<float>(all.begin() + static_cast<int64_t>(n), all.begin() + static_cast<int64_t>(2 * n)), as_stored(d_x, in));
        const std::vector<float> again(all.begin() + static_cast<int64_t>(2 * n), all.end());
        expect_near(again, want.y, rounding(in), "h");
        if (in == out) { EXPECT_EQ(again, y); }
      }
}

TEST(NormsCuda, RmsNormAsOnTheCpu) {
  const int64_t T = 3, C = 320;
  std::vector<float> x = random_floats(T * C, 1), d_y = random_floats(T * C, 2), weight = random_floats(C, 3), y(x.size()), rstd(T),
                     d_x(x.size());
  const Tensor w(weight.data(), Dtype::F32, {C}), r(rstd.data(), Dtype::F32, {T});
  Context ctx;
  rms_norm(ctx, matrix(y, T, C), r, matrix(x, T, C), w, kEps, 1);
  rms_norm_backward(ctx, matrix(d_x, T, C), matrix(d_y, T, C), matrix(x, T, C), r, w, false, 1);
  DeviceMatrix gx(Dtype::F32, T, C, x), gdy(Dtype::F32, T, C, d_y), gw(Dtype::F32, 1, C, weight), gy(Dtype::F32, T, C),
      gr(Dtype::F32, T, 1);
  GpuStream s;
  rms_norm_cuda(s, gy.tensor(), gr.tensor(), gx.tensor(), gw.tensor(), kEps, 1);
  expect_near(gy.get(s), y, 1e-6, "y");
  rms_norm_backward_cuda(s, gdy.tensor(), gdy.tensor(), gx.tensor(), gr.tensor(), gw.tensor(), false, 1);  // in place
  expect_near(gdy.get(s), d_x, 1e-6, "d_x");
}

TEST(NormsCuda, SumAndNormInOne) {
  for (auto [T, C] : {std::pair<int64_t, int64_t>{3, 264}, {2, 37}})
    for (Dtype type : kTypes)
      for (bool keeps_rounded : {true, false}) {
        std::vector<float> sum = random_floats(T * C, 1), weight = random_floats(C, 3), want_rstd(static_cast<size_t>(T));
        const std::vector<float> x = as_stored(random_floats(T * C, 2), type), begin = sum;
        std::vector<float> more = x, y(x.size()), kept;
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
        kept = keeps_rounded ? as_stored(sum, type) : sum;
        Context ctx;
        rms_norm(ctx, matrix(y, T, C), Tensor(want_rstd.data(), Dtype::F32, {T}), matrix(kept, T, C),
                 Tensor(weight.data(), Dtype::F32, {C}), kEps);
        DeviceMatrix gs(Dtype::F32, T, C, begin), gx(type, T, C, x), gw(Dtype::F32, 1, C, weight), gy(type, T, C), gk(type, T, C),
            gr(Dtype::F32, T, 1);
        const std::vector<float> got = in_all_orders([&](GpuStream& s) {
          gs.reset(s);
          add_rms_norm_cuda(s, gy.tensor(), gr.tensor(), gs.tensor(), keeps_rounded ? gk.tensor() : Tensor(), gx.tensor(), gw.tensor(),
                            kEps, 0);
          return joined(gy.get(s), gr.get(s));
        });
        GpuStream s;
        EXPECT_EQ(gs.get(s), sum);
        // Nothing to add: the sum is there, and stays.
        add_rms_norm_cuda(s, gy.tensor(), gr.tensor(), gs.tensor(), keeps_rounded ? gk.tensor() : Tensor(), {}, gw.tensor(), kEps, 0);
        EXPECT_EQ(joined(gy.get(s), gr.get(s)), got);
        EXPECT_EQ(gs.get(s), sum);
        if (keeps_rounded) { EXPECT_EQ(gk.get(s), kept); }
        expect_near(std::vector<float>(got.begin(), got.begin() + T * C), y, rounding(type), "y");
        expect_near(std::vector<float>(got.begin() + T * C, got.end()), want_rstd, 1e-6, "rstd");
      }
}

// Heads of q and k with a weight each, v as one piece without; against the same norms one after the other.
TEST(NormsCuda, OfHeads) {
  for (auto [D, pad] : {std::pair<int64_t, int64_t>{16, 0}, {7, 3}, {264, 8}})
    for (Dtype type : kTypes) {
      const int64_t T = 3, columns = 6 * D + 8;
      const std::vector<float> x = as_stored(random_floats(T * columns, 1), type), d_y = as_stored(random_floats(T * columns, 2), type),
                               weights = random_floats(2 * D, 3);
      DeviceMatrix gx(type, T, columns, x, pad), gb(type, T, columns, {}, pad), gd(type, T, columns, d_y, pad),
          gq(Dtype::F32, 1, D, {weights.begin(), weights.begin() + D}), gk(Dtype::F32, 1, D, {weights.begin() + D, weights.end()}),
          gr(Dtype::F32, 6, T, {}, 2);
      const std::vector<HeadNormGroup> groups = {
          {0, 3, D, gq.tensor().f32(), kEps, 0.0f}, {3 * D, 2, D, gk.tensor().f32(), kEps, 1.0f}, {5 * D + 8, 1, D, nullptr, 1e-3f, 0.0f}};
      std::vector<double> want(x.begin(), x.end()), want_d(d_y.begin(), d_y.end()), want_rstd(static_cast<size_t>(6 * T));
      int64_t piece = 0;
      for (const HeadNormGroup& group : groups)
        for (int64_t h = 0; h < group.count; ++h, ++piece)
          for (int64_t t = 0; t < T; ++t) {
            const int64_t at = t * columns + group.first + h * D;
            double squares = 0, dot = 0;
            const auto factor = [&, width = D](int64_t c) {
              return group.weight ? static_cast<double>(group.offset) + weights[static_cast<size_t>(group.first > 0 ? width + c : c)] : 1.0;
            };
            for (int64_t c = 0; c < D; ++c) squares += static_cast<double>(x[static_cast<size_t>(at + c)]) * x[static_cast<size_t>(at + c)];
            const double r = 1 / std::sqrt(squares / static_cast<double>(D) + group.eps);
            want_rstd[static_cast<size_t>(piece * T + t)] = r;
            for (int64_t c = 0; c < D; ++c)
              dot += d_y[static_cast<size_t>(at + c)] * factor(c) * x[static_cast<size_t>(at + c)] * r / static_cast<double>(D);
            for (int64_t c = 0; c < D; ++c) {
              const auto i = static_cast<size_t>(at + c);
              want[i] = x[i] * r * factor(c);
              want_d[i] = r * (d_y[i] * factor(c) - x[i] * r * dot);
            }
          }
      const std::vector<float> got = in_all_orders([&](GpuStream& s) {
        gx.reset(s), gd.reset(s);
        head_norms_cuda(s, gx.tensor(), gb.tensor(), gr.tensor(), groups);
        head_norms_backward_cuda(s, gd.tensor(), gb.tensor(), gr.tensor(), groups);
        return joined(joined(gx.get(s), gd.get(s)), gr.get(s));
      });
      const auto n = static_cast<int64_t>(x.size());
      expect_near(std::vector<float>(got.begin(), got.begin() + n), want, rounding(type), "y");
      expect_near(std::vector<float>(got.begin() + n, got.begin() + 2 * n), want_d, rounding(type), "d");
      expect_near(std::vector<float>(got.begin() + 2 * n, got.end()), want_rstd, 1e-6, "rstd");
    }
}

TEST(NormsCuda, LayerNorm) {
  for (const NormCase& c : kNormCases)
    for (Dtype out : kTypes)
      for (Dtype in : kTypes) {
        const std::vector<float> x = as_stored(random_floats(c.T * c.C, 1), in), d_y = as_stored(random_floats(c.T * c.C, 2), out),
                                 weight = random_floats(c.C, 3), bias = random_floats(c.C, 5),
                                 before = as_stored(random_floats(c.T * c.C, 4), in);
        const bool with_bias = c.pad == 0;
        NormReference want(x, d_y, weight, c, true);
        for (size_t i = 0; i < want.y.size() && with_bias; ++i) want.y[i] += bias[i % static_cast<size_t>(c.C)];
        DeviceMatrix gx(in, c.T, c.C, x, c.pad), gdy(out, c.T, c.C, d_y, c.pad), gw(Dtype::F32, 1, c.C, weight),
            gb(Dtype::F32, 1, c.C, bias), gy(out, c.T, c.C, {}, c.pad), figures(Dtype::F32, c.T, 2), gdx(in, c.T, c.C, before, c.pad);
        const Tensor w = c.weight ? gw.tensor() : Tensor(), b = with_bias ? gb.tensor() : Tensor(), mean = figures.tensor().col_range(0, 1),
                     rstd = figures.tensor().col_range(1, 1);
        const std::vector<float> y = in_all_orders([&](GpuStream& s) {
          layer_norm_cuda(s, gy.tensor(), mean, rstd, gx.tensor(), w, b, kEps, c.offset);
          return gy.get(s);
        });
        if (c.C == 1) continue;  // 0 / 0 but for eps
        expect_near(y, want.y, rounding(out), "y");
        GpuStream stream;
        const std::vector<float> both = figures.get(stream);
        for (size_t t = 0; t < static_cast<size_t>(c.T); ++t) {
          EXPECT_NEAR(both[2 * t], want.mean[t], 1e-6);
          EXPECT_NEAR(both[2 * t + 1], want.rstd[t], 1e-6 * want.rstd[t]);
        }
        EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                    layer_norm_rebuild_cuda(s, gy.tensor(), gx.tensor(), mean, rstd, w, b, c.offset);
                    return gy.get(s);
                  }),
                  y);
        for (bool accumulate : {false, true}) {
          const std::vector<float> d_x = in_all_orders([&](GpuStream& s) {
            gdx.reset(s);
            layer_norm_backward_cuda(s, gdx.tensor(), gdy.tensor(), gx.tensor(), mean, rstd, w, c.offset, accumulate);
            return gdx.get(s);
          });
          expect_near(d_x, accumulate ? plus(want.d_x, before) : want.d_x, rounding(in), "d_x");
        }
      }
}

TEST(NormsCuda, LayerNormAsOnTheCpu) {
  const int64_t T = 3, C = 320;
  std::vector<float> x = random_floats(T * C, 1), d_y = random_floats(T * C, 2), weight = random_floats(C, 3), bias = random_floats(C, 4),
                     y(x.size()), mean(T), rstd(T), d_x(x.size());
  const Tensor w(weight.data(), Dtype::F32, {C}), b(bias.data(), Dtype::F32, {C}), m(mean.data(), Dtype::F32, {T}),
      r(rstd.data(), Dtype::F32, {T});
  Context ctx;
  layer_norm(ctx, matrix(y, T, C), m, r, matrix(x, T, C), w, b, kEps, 1);
  layer_norm_backward(ctx, matrix(d_x, T, C), matrix(d_y, T, C), matrix(x, T, C), m, r, w, 1, false);
  DeviceMatrix gx(Dtype::F32, T, C, x), gdy(Dtype::F32, T, C, d_y), gw(Dtype::F32, 1, C, weight), gb(Dtype::F32, 1, C, bias),
      gy(Dtype::F32, T, C), gm(Dtype::F32, T, 1), gr(Dtype::F32, T, 1);
  GpuStream s;
  layer_norm_cuda(s, gy.tensor(), gm.tensor(), gr.tensor(), gx.tensor(), gw.tensor(), gb.tensor(), kEps, 1);
  expect_near(gy.get(s), y, 1e-6, "y");
  layer_norm_backward_cuda(s, gdy.tensor(), gdy.tensor(), gx.tensor(), gm.tensor(), gr.tensor(), gw.tensor(), 1, false);
  expect_near(gdy.get(s), d_x, 1e-6, "d_x");
}

}  // namespace
}  // namespace loraine::norms_cuda_test
