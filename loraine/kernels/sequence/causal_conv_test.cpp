// The causal convolution against its formula in double, gradients by central differences; packed equals separate, chunks with state equal
// the whole, to the bit; bf16, threads, bad input.
#include "loraine/kernels/sequence/causal_conv.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::causal_conv_test {
namespace {

Sequence whole(int64_t start, int64_t length) { return {start, length, start, length}; }

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& weight, const std::vector<double>& bias, int64_t C,
                              const std::vector<Sequence>& sequences, bool silu) {
  const int64_t K = static_cast<int64_t>(weight.size()) / C;
  std::vector<double> y(x.size());
  for (const Sequence& s : sequences)
    for (int64_t i = 0; i < s.length; ++i)
      for (int64_t c = 0; c < C; ++c) {
        double sum = bias.empty() ? 0 : bias[static_cast<size_t>(c)];
        for (int64_t k = 0; k < K; ++k) {
          const int64_t from = i - K + 1 + k;
          if (from >= 0) sum += weight[static_cast<size_t>(c * K + k)] * x[static_cast<size_t>((s.start + from) * C + c)];
        }
        y[static_cast<size_t>((s.start + i) * C + c)] = silu ? sum / (1 + std::exp(-sum)) : sum;
      }
  return y;
}

TEST(CausalConv, ForwardAndGradients) {
  const int64_t T = 13, C = 9;
  const std::vector<Sequence> sequences{whole(0, 6), whole(6, 1), whole(7, 2), whole(9, 4)};
  for (int64_t K : {1, 2, 4, 8}) {
    for (bool silu : {false, true}) {
      for (bool with_bias : {false, true}) {
        std::vector<float> x = random_floats(T * C, 1), w = random_floats(C * K, 2), b = random_floats(C, 3), r = random_floats(T * C, 4),
                           y(x.size()), d_x(x.size()), d_w(w.size(), 0.5f), d_b(b.size(), 0.25f);
        const float* bias = with_bias ? b.data() : nullptr;
        Context ctx;
        causal_conv(ctx, matrix(y, T, C), matrix(x, T, C), matrix(w, C, K), bias, sequences, Tensor(), {}, silu);
        std::vector<double> xd = doubles(x), wd = doubles(w), bd = with_bias ? doubles(b) : std::vector<double>();
        const auto value = [&] { return inner(reference(xd, wd, bd, C, sequences, silu), r); };
        expect_near(y, reference(xd, wd, bd, C, sequences, silu), 1e-6, "y");
        causal_conv_backward(ctx, matrix(d_x, T, C), matrix(r, T, C), matrix(x, T, C), matrix(w, C, K), bias, sequences, silu);
        expect_near(d_x, central_differences(xd, value), 2e-6, "d_x");
        causal_conv_weight_gradient(ctx, matrix(d_w, C, K), with_bias ? d_b.data() : nullptr, matrix(r, T, C), matrix(x, T, C),
                                    matrix(w, C, K), bias, sequences, silu);
        std::vector<double> want = central_differences(wd, value);
        for (double& v : want) v += 0.5;  // it adds
        expect_near(d_w, want, 2e-6, "d_weight");
        if (with_bias) {
          want = central_differences(bd, value);
          for (double& v : want) v += 0.25;
          expect_near(d_b, want, 2e-6, "d_bias");
        }
        std::vector<float> same = x, over_y = r, over_x = x;
        causal_conv(ctx, matrix(same, T, C), matrix(same, T, C), matrix(w, C, K), bias, sequences, Tensor(), {}, silu);
        EXPECT_EQ(same, y);
        causal_conv_backward(ctx, matrix(over_y, T, C), matrix(over_y, T, C), matrix(x, T, C), matrix(w, C, K), bias, sequences, silu);
        causal_conv_backward(ctx, matrix(over_x, T, C), matrix(r, T, C), matrix(over_x, T, C), matrix(w, C, K), bias, sequences, silu);
        EXPECT_EQ(over_y, d_x);
        EXPECT_EQ(over_x, d_x);
      }
    }
  }
}

// Some of everything, wider than a stripe of columns.
struct Case {
  static constexpr int64_t T = 61, C = 523, K = 4;
  std::vector<float> x = random_floats(T * C, 1), w = random_floats(C * K, 2), b = random_floats(C, 3), r = random_floats(T * C, 4);
  Context ctx;
  Tensor rows(std::vector<float>& v, const Sequence& s) { return matrix(v, T, C).row_range(s.start, s.length); }
};

TEST(CausalConv, PackedIsSeparateAndThreadsDoNotMatter) {
  Case c;
  const std::vector<Sequence> sequences{whole(0, 30), whole(30, 2), whole(32, 29)};
  const Tensor w = matrix(c.w, Case::C, Case::K);
  std::vector<float> y(c.x.size()), d_x(c.x.size());
  for (const Sequence& s : sequences) {
    const std::vector<Sequence> alone{whole(0, s.length)};
    causal_conv(c.ctx, c.rows(y, s), c.rows(c.x, s), w, c.b.data(), alone, Tensor(), {}, true);
    causal_conv_backward(c.ctx, c.rows(d_x, s), c.rows(c.r, s), c.rows(c.x, s), w, c.b.data(), alone, true);
  }
  std::vector<float> d_w;
  const int before = omp_get_max_threads();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    std::vector<float> packed(y.size()), d_packed(y.size()), d_weight(c.w.size() + c.b.size());
    causal_conv(c.ctx, matrix(packed, Case::T, Case::C), matrix(c.x, Case::T, Case::C), w, c.b.data(), sequences, Tensor(), {}, true);
    EXPECT_EQ(packed, y);
    causal_conv_backward(c.ctx, matrix(d_packed, Case::T, Case::C), matrix(c.r, Case::T, Case::C), matrix(c.x, Case::T, Case::C), w,
                         c.b.data(), sequences, true);
    EXPECT_EQ(d_packed, d_x);
    causal_conv_weight_gradient(c.ctx, Tensor(d_weight.data(), Dtype::F32, {Case::C, Case::K}), d_weight.data() + c.w.size(),
                                matrix(c.r, Case::T, Case::C), matrix(c.x, Case::T, Case::C), w, c.b.data(), sequences, true);
    if (d_w.empty()) d_w = d_weight;
    EXPECT_EQ(d_weight, d_w);
  }
  omp_set_num_threads(before);
}

TEST(CausalConv, ChunksWithStateAreTheWhole) {
  Case c;
  const Tensor w = matrix(c.w, Case::C, Case::K);
  for (bool narrow : {false, true}) {
    std::vector<bf16> x16 = to_bf16(c.x), y16(c.x.size()), want16(c.x.size());
    std::vector<float> y(c.x.size()), want(c.x.size());
    const Tensor x = narrow ? matrix(x16, Case::T, Case::C) : matrix(c.x, Case::T, Case::C);
    const Tensor out = narrow ? matrix(y16, Case::T, Case::C) : matrix(y, Case::T, Case::C);
    const std::vector<Sequence> at_once{whole(0, 40), whole(40, 21)};
    causal_conv(c.ctx, narrow ? matrix(want16, Case::T, Case::C) : matrix(want, Case::T, Case::C), x, w, c.b.data(), at_once, Tensor(), {},
                true);
    std::vector<float> state = random_floats(5 * 3 * Case::C, 9), untouched = state;  // what is left of others is not read
    const Tensor kept = matrix(state, 5, 3 * Case::C);
    // Both sequences go on together, in pieces of different lengths; of the second some calls have no row.
    const std::vector<std::pair<int64_t, int64_t>> pieces{{1, 2}, {1, 0}, {1, 1}, {30, 5}, {2, 1}, {1, 12}, {4, 0}};
    int64_t done[2] = {0, 0};
    for (auto [a, b] : pieces) {
      std::vector<Sequence> now;
      std::vector<int64_t> slots;
      if (b > 0) now.push_back({40 + done[1], b, 0, done[1] + b}), slots.push_back(1);
      now.push_back({done[0], a, 0, done[0] + a}), slots.push_back(3);
      causal_conv(c.ctx, out, x, w, c.b.data(), now, kept, slots, true);
      done[0] += a, done[1] += b;
    }
    EXPECT_EQ(done[0], 40);
    EXPECT_EQ(done[1], 21);
    EXPECT_EQ(y, want);
    EXPECT_EQ(y16, want16);
    std::vector<float> wide = narrow ? to_floats(x16) : c.x;
    for (size_t i = 0; i < state.size(); ++i) {
      const size_t slot = i / (3 * Case::C), at = i % (3 * Case::C);
      const float last = slot == 3 ? wide[37 * Case::C + at] : slot == 1 ? wide[58 * Case::C + at] : untouched[i];
      ASSERT_EQ(state[i], last) << i;
    }
  }
}

TEST(CausalConv, BfloatIsTheRoundedF32AndRowsMayBeStrided) {
  Case c;
  const std::vector<Sequence> sequences{whole(0, 50), whole(50, 11)};
  const Tensor w = matrix(c.w, Case::C, Case::K);
  std::vector<bf16> x = to_bf16(c.x), r = to_bf16(c.r), y(x.size()), d(x.size());
  std::vector<float> xw = to_floats(x), rw = to_floats(r), yw(x.size()), dw(x.size()), d_w(c.w.size()), d_w16(c.w.size());
  const auto of = [](auto& v) { return matrix(v, Case::T, Case::C); };
  causal_conv(c.ctx, of(y), of(x), w, nullptr, sequences, Tensor(), {}, true);
  causal_conv(c.ctx, of(yw), of(xw), w, nullptr, sequences, Tensor(), {}, true);
  EXPECT_EQ(y, to_bf16(yw));
  causal_conv_backward(c.ctx, of(d), of(r), of(x), w, nullptr, sequences, true);
  causal_conv_backward(c.ctx, of(dw), of(rw), of(xw), w, nullptr, sequences, true);
  EXPECT_EQ(d, to_bf16(dw));
  causal_conv_weight_gradient(c.ctx, matrix(d_w16, Case::C, Case::K), nullptr, of(r), of(x), w, nullptr, sequences, true);
  causal_conv_weight_gradient(c.ctx, matrix(d_w, Case::C, Case::K), nullptr, of(rw), of(xw), w, nullptr, sequences, true);
  EXPECT_EQ(d_w16, d_w);

  const int64_t wide = 2 * Case::C;
  std::vector<float> both(static_cast<size_t>(Case::T * wide), 7.0f);
  const Tensor right = matrix(both, Case::T, wide).col_range(Case::C, Case::C);
  for (int64_t t = 0; t < Case::T; ++t) std::copy_n(xw.begin() + t * Case::C, Case::C, both.begin() + t * wide + Case::C);
  causal_conv(c.ctx, right, right, w, nullptr, sequences, Tensor(), {}, true);
  for (int64_t t = 0; t < Case::T; ++t) {
    EXPECT_TRUE(std::equal(yw.begin() + t * Case::C, yw.begin() + (t + 1) * Case::C, both.begin() + t * wide + Case::C));
    EXPECT_EQ(both[static_cast<size_t>(t * wide)], 7.0f);
  }
}

TEST(CausalConv, RefusesWhatDoesNotFit) {
  std::vector<float> x(6 * 4), w(4 * 3), nine(4 * 9), state(2 * 8);
  Context ctx;
  const auto run = [&](const Tensor& weight, const Sequence& s, const Tensor& kept, std::vector<int64_t> slots) {
    const std::vector<Sequence> sequences{s};
    causal_conv(ctx, matrix(x, 6, 4), matrix(x, 6, 4), weight, nullptr, sequences, kept, slots, false);
  };
  run(matrix(w, 4, 3), {0, 2, 0, 5}, matrix(state, 2, 8), {1});
  EXPECT_THROW(run(matrix(nine, 4, 9), whole(0, 6), Tensor(), {}), Error);
  EXPECT_THROW(run(matrix(w, 4, 3), whole(3, 4), Tensor(), {}), Error);
  EXPECT_THROW(run(matrix(w, 4, 3), {0, 2, 0, 5}, Tensor(), {}), Error);
  EXPECT_THROW(run(matrix(w, 4, 3), {0, 2, 0, 5}, matrix(state, 2, 8), {2}), Error);
  EXPECT_THROW(run(matrix(w, 4, 3), {0, 2, 0, 5}, matrix(state, 2, 8), {}), Error);
  EXPECT_THROW(run(matrix(w, 4, 3), {0, 2, 0, 5}, matrix(state, 4, 4), {1}), Error);
}

}  // namespace
}  // namespace loraine::causal_conv_test
