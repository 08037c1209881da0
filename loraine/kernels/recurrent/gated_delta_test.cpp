// The gated delta rule against the recurrence in double: gradients by central differences, pieces with a state, packed sequences, decays of
// all sizes.
#include "loraine/kernels/recurrent/gated_delta.h"

#include "loraine/kernels/recurrent/recurrent_test.h"
#include "tests/support/op_check.h"

namespace loraine::gated_delta_test {
namespace {

template <class T>
struct Inputs {
  std::vector<T> q, k, v, g, beta;
};

double factor_of(const double* x, int64_t n, double eps) {
  double sum = eps;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return eps > 0 ? 1 / std::sqrt(sum) : 1;
}

// Row by row; with raw pointers, as the differences below call it some thousand times.
std::vector<double> reference(const Inputs<double>& in, const std::vector<Sequence>& sequences, const GatedDeltaShape& a) {
  const int64_t K = a.key_dim, V = a.value_dim, r = a.value_heads / a.key_heads;
  std::vector<double> out(in.v.size()), state(static_cast<size_t>(K * V));
  double *o = out.data(), *S = state.data();
  for (const Sequence& s : sequences) {
    for (int64_t h = 0; h < a.value_heads; ++h) {
      std::fill_n(S, K * V, 0.0);
      for (int64_t t = s.start; t < s.start + s.length; ++t) {
        const int64_t key = t * a.keys() + h / r * K, value = t * a.values() + h * V, head = t * a.value_heads + h;
        const double *q = in.q.data() + key, *k = in.k.data() + key, *g = in.g.data();
        const double of_q = factor_of(q, K, a.normalise_eps) * a.scale, of_k = factor_of(k, K, a.normalise_eps),
                     beta = in.beta[static_cast<size_t>(head)];
        for (int64_t c = 0; c < K; ++c) {
          const double decay = std::exp(a.channel_decay ? g[key + c] : g[head]);
          for (int64_t d = 0; d < V; ++d) S[c * V + d] *= decay;
        }
        for (int64_t d = 0; d < V; ++d) {
          double u = in.v.data()[value + d];
          for (int64_t c = 0; c < K; ++c) u -= S[c * V + d] * k[c] * of_k;
          for (int64_t c = 0; c < K; ++c) {
            S[c * V + d] += k[c] * of_k * beta * u;
            o[value + d] += S[c * V + d] * q[c] * of_q;
          }
        }
      }
    }
  }
  return out;
}

Inputs<float> random_inputs(int64_t T, const GatedDeltaShape& a, float decay) {
  Inputs<float> in{random_floats(T * a.keys(), 1), random_floats(T * a.keys(), 2), random_floats(T * a.values(), 3),
                   random_floats(T * a.decays(), 4), random_floats(T * a.value_heads, 5)};
  for (float& g : in.g) g = -decay * std::exp(g);
  for (float& b : in.beta) b = 1 / (1 + std::exp(-b));
  return in;
}

Inputs<double> doubles_of(const Inputs<float>& in) {
  return {doubles(in.q), doubles(in.k), doubles(in.v), doubles(in.g), doubles(in.beta)};
}

// Borders are planned for the largest batch of a run: here there is room for one more.
struct Results {
  std::vector<float> o, d_q, d_k, d_v, d_g, d_beta;
  bool operator==(const Results&) const = default;
};

Results run(Inputs<float> in, std::vector<float> d_o, const std::vector<Sequence>& sequences, const GatedDeltaShape& a) {
  const int64_t T = static_cast<int64_t>(in.v.size()) / a.values(), rows = recurrent_border_rows(T) + 1;
  std::vector<float> borders(static_cast<size_t>(rows * a.state_columns()));
  Results r{std::vector<float>(in.v.size()), std::vector<float>(in.q.size()), std::vector<float>(in.k.size()),
            std::vector<float>(in.v.size()), std::vector<float>(in.g.size()), std::vector<float>(in.beta.size())};
  Context ctx;
  const Tensor q = matrix(in.q, T, a.keys()), k = matrix(in.k, T, a.keys()), v = matrix(in.v, T, a.values()),
               g = matrix(in.g, T, a.decays()), beta = matrix(in.beta, T, a.value_heads), kept = matrix(borders, rows, a.state_columns());
  gated_delta(ctx, matrix(r.o, T, a.values()), kept, q, k, v, g, beta, sequences, a);
  gated_delta_backward(ctx, matrix(r.d_q, T, a.keys()), matrix(r.d_k, T, a.keys()), matrix(r.d_v, T, a.values()),
                       matrix(r.d_g, T, a.decays()), matrix(r.d_beta, T, a.value_heads), matrix(d_o, T, a.values()), kept, q, k, v, g, beta,
                       sequences, a);
  return r;
}

TEST(GatedDelta, GradientIsThatOfTheRecurrence) {
  struct Case {
    GatedDeltaShape shape;
    float decay;
    std::vector<Sequence> sequences;
  };
  for (const Case& c : {Case{{1, 2, 3, 2, 0.5f, 1e-6f, false}, 0.05f, whole_sequences({1, 130})},
                        Case{{2, 2, 5, 3, 0.5f, 1e-6f, false}, 1, whole_sequences({3, 66})},
                        Case{{1, 3, 3, 2, 1, 0.1f, false}, 0.05f, whole_sequences({66, 9})},
                        Case{{1, 1, 3, 2, 0.5f, 1e-6f, true}, 0.05f, whole_sequences({130})},
                        Case{{2, 2, 3, 4, 0.5f, 1e-6f, true}, 0.3f, whole_sequences({3, 66})},
                        Case{{1, 2, 3, 4, 0.7f, 0, true}, 1, whole_sequences({66, 9})}}) {
    const GatedDeltaShape& a = c.shape;
    const std::vector<Sequence>& s = c.sequences;
    const int64_t T = rows_of(s);
    Inputs<float> in = random_inputs(T, a, c.decay);
    if (a.normalise_eps == 0)
      for (std::vector<float>* x : {&in.q, &in.k})
        for (float& e : *x) e *= 0.5f;
    const std::vector<float> d_o = random_floats(T * a.values(), 6);
    const Results got = run(in, d_o, s, a);
    Inputs<double> d = doubles_of(in);
    expect_near(got.o, reference(d, s, a), 3e-6, "o");
    auto loss = [&] { return inner(reference(d, s, a), d_o); };
    expect_near(got.d_q, central_differences(d.q, loss), 1e-5, "d_q");
    expect_near(got.d_k, central_differences(d.k, loss), 1e-5, "d_k");
    expect_near(got.d_v, central_differences(d.v, loss), 1e-5, "d_v");
    expect_near(got.d_g, central_differences(d.g, loss), 1e-5, "d_g");
    expect_near(got.d_beta, central_differences(d.beta, loss), 1e-5, "d_beta");
  }
}

TEST(GatedDelta, HasTheSameBitsPackedAloneAndOnAnyThreads) {
  for (const GatedDeltaShape& a : {GatedDeltaShape{2, 4, 32, 24, 0.2f, 1e-6f, false}, GatedDeltaShape{3, 3, 16, 16, 0.25f, 1e-6f, true}}) {
    const std::vector<Sequence> s = whole_sequences({150, 3, 64, 65});
    const int64_t T = rows_of(s);
    const Inputs<float> in = random_inputs(T, a, 0.2f);
    const std::vector<float> d_o = random_floats(T * a.values(), 6);
    const Results all = with_threads(1, [&] { return run(in, d_o, s, a); });
    for (int threads : {2, 3}) EXPECT_TRUE(all == with_threads(threads, [&] { return run(in, d_o, s, a); })) << threads;
    for (const Sequence& one : s) {
      auto part = [&](const std::vector<float>& x) {
        const auto columns = static_cast<int64_t>(x.size()) / T;
        return std::vector<float>(x.begin() + one.start * columns, x.begin() + (one.start + one.length) * columns);
      };
      const Results alone =
          run({part(in.q), part(in.k), part(in.v), part(in.g), part(in.beta)}, part(d_o), whole_sequences({one.length}), a);
      const Results packed{part(all.o), part(all.d_q), part(all.d_k), part(all.d_v), part(all.d_g), part(all.d_beta)};
      EXPECT_TRUE(alone == packed) << one.length;
    }
  }
}

TEST(GatedDelta, PiecesWithAStateAreTheWhole) {
  for (const GatedDeltaShape& a : {GatedDeltaShape{2, 4, 32, 24, 0.2f, 1e-6f, false}, GatedDeltaShape{3, 3, 16, 20, 0.25f, 1e-6f, true}}) {
    const int64_t T = 203;
    Inputs<float> in = random_inputs(T, a, 0.1f);
    const std::vector<double> want = reference(doubles_of(in), whole_sequences({T}), a);
    for (const std::vector<int64_t>& pieces :
         {std::vector<int64_t>{203}, {64, 139}, {1, 100, 100, 2}, {8, 9, 65, 121}, std::vector<int64_t>(203, 1)}) {
      std::vector<float> o(in.v.size()), states(static_cast<size_t>(3 * a.state_columns()), 7.0f);
      Context ctx;
      int64_t at = 0;
      for (int64_t n : pieces) {
        auto rows = [&](std::vector<float>& x, int64_t columns) { return matrix(x, T, columns).row_range(at, n); };
        const std::vector<Sequence> s{{0, n, 0, at + n}};
        const std::vector<int64_t> slots{1};
        gated_delta(ctx, rows(o, a.values()), {}, rows(in.q, a.keys()), rows(in.k, a.keys()), rows(in.v, a.values()),
                    rows(in.g, a.decays()), rows(in.beta, a.value_heads), s, a, {matrix(states, 3, a.state_columns()), slots});
        at += n;
      }
      expect_near(o, want, 3e-6, "o");
      for (int64_t i = 0; i < a.state_columns(); ++i) {
        ASSERT_EQ(states[static_cast<size_t>(i)], 7);
        ASSERT_EQ(states[static_cast<size_t>(2 * a.state_columns() + i)], 7);
      }
    }
  }
}

// Several sequences that go on at once, prompts beside single tokens.
TEST(GatedDelta, SequencesThatGoOnDoNotFeelEachOther) {
  const GatedDeltaShape a{2, 4, 16, 8, 0.2f, 1e-6f, false};
  const std::vector<Sequence> s{{0, 1, 0, 50}, {1, 90, 0, 90}, {91, 70, 0, 75}, {161, 3, 0, 3}};
  const int64_t T = 164;
  Inputs<float> in = random_inputs(T, a, 0.1f);
  const std::vector<float> before = random_floats(4 * a.state_columns(), 9);
  auto run_some = [&](const std::vector<Sequence>& some, const std::vector<int64_t>& slots, std::vector<float>& states) {
    std::vector<float> o(in.v.size());
    Context ctx;
    gated_delta(ctx, matrix(o, T, a.values()), {}, matrix(in.q, T, a.keys()), matrix(in.k, T, a.keys()), matrix(in.v, T, a.values()),
                matrix(in.g, T, a.decays()), matrix(in.beta, T, a.value_heads), some, a, {matrix(states, 4, a.state_columns()), slots});
    return o;
  };
  std::vector<float> states = before, states_alone = before, o_alone(in.v.size());
  const std::vector<float> o = run_some(s, {2, 0, 3, 1}, states);
  const std::vector<int64_t> slots{2, 0, 3, 1};
  for (size_t i = 0; i < s.size(); ++i) {
    const std::vector<float> one = run_some({s[i]}, {slots[i]}, states_alone);
    for (size_t e = 0; e < one.size(); ++e) o_alone[e] += one[e];
  }
  EXPECT_EQ(o, o_alone);
  EXPECT_EQ(states, states_alone);
}

TEST(GatedDelta, LongSequencesStayFiniteForAllDecays) {
  for (bool channel : {false, true}) {
    const GatedDeltaShape a{1, 2, 16, 16, 0.25f, 1e-6f, channel};
    const std::vector<Sequence> s = whole_sequences({1000});
    for (float decay : {0.0f, 1e-7f, 3.0f, 60.0f, 1e4f}) {
      Inputs<float> in = random_inputs(1000, a, decay);
      for (size_t i = 0; i < in.beta.size(); i += 3) in.beta[i] = 1;
      for (size_t i = 0; i < in.g.size(); i += 7) in.g[i] = 0;
      const std::vector<float> d_o = random_floats(1000 * a.values(), 6);
      const Results got = run(in, d_o, s, a);
      expect_near(got.o, reference(doubles_of(in), s, a), 1e-5, "o");
      for (const std::vector<float>* x : {&got.d_q, &got.d_k, &got.d_v, &got.d_g, &got.d_beta})
        for (float e : *x) ASSERT_TRUE(std::isfinite(e)) << decay;
    }
  }
}

// q, k and v as columns of one tensor, as a convolution leaves them, and their gradients likewise.
TEST(GatedDelta, TakesColumnsOfWiderRows) {
  const GatedDeltaShape a{2, 4, 16, 8, 0.25f, 1e-6f, false};
  const std::vector<Sequence> s = whole_sequences({100, 5});
  const int64_t T = 105, columns = 2 * a.keys() + a.values();
  Inputs<float> in = random_inputs(T, a, 0.1f);
  std::vector<float> d_o = random_floats(T * a.values(), 6), all, d_all(static_cast<size_t>(T * columns)), o(in.v.size()), d_g(in.g.size()),
                     d_beta(in.beta.size()), borders(static_cast<size_t>(a.state_columns()));
  for (int64_t t = 0; t < T; ++t) {
    for (const std::vector<float>* x : {&in.q, &in.k, &in.v}) {
      const int64_t n = static_cast<int64_t>(x->size()) / T;
      all.insert(all.end(), x->begin() + t * n, x->begin() + (t + 1) * n);
    }
  }
  const Results want = run(in, d_o, s, a);
  auto q = [&](std::vector<float>& x) { return matrix(x, T, columns).col_range(0, a.keys()); };
  auto k = [&](std::vector<float>& x) { return matrix(x, T, columns).col_range(a.keys(), a.keys()); };
  auto v = [&](std::vector<float>& x) { return matrix(x, T, columns).col_range(2 * a.keys(), a.values()); };
  Context ctx;
  const Tensor g = matrix(in.g, T, a.decays()), beta = matrix(in.beta, T, a.value_heads), kept = matrix(borders, 1, a.state_columns());
  gated_delta(ctx, matrix(o, T, a.values()), kept, q(all), k(all), v(all), g, beta, s, a);
  gated_delta_backward(ctx, q(d_all), k(d_all), v(d_all), matrix(d_g, T, a.decays()), matrix(d_beta, T, a.value_heads),
                       matrix(d_o, T, a.values()), kept, q(all), k(all), v(all), g, beta, s, a);
  EXPECT_EQ(o, want.o);
  EXPECT_EQ(d_g, want.d_g);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t c = 0; c < a.keys(); ++c) {
      ASSERT_EQ(d_all[static_cast<size_t>(t * columns + c)], want.d_q[static_cast<size_t>(t * a.keys() + c)]);
      ASSERT_EQ(d_all[static_cast<size_t>(t * columns + a.keys() + c)], want.d_k[static_cast<size_t>(t * a.keys() + c)]);
      ASSERT_EQ(d_all[static_cast<size_t>(t * columns + 2 * a.keys() + c)], want.d_v[static_cast<size_t>(t * a.values() + c)]);
    }
}

TEST(GatedDelta, OfBfloatActivationsIsThatOfTheirValues) {
  const GatedDeltaShape a{2, 4, 16, 8, 0.25f, 1e-6f, false};
  const std::vector<Sequence> s = whole_sequences({100, 30});
  const int64_t T = 130, rows = recurrent_border_rows(T) + 1;
  Inputs<float> in = random_inputs(T, a, 0.1f);
  std::vector<bf16> q = to_bf16(in.q), k = to_bf16(in.k), v = to_bf16(in.v), d_o = to_bf16(random_floats(T * a.values(), 6)), o(v.size()),
                    d_q(q.size()), d_k(k.size()), d_v(v.size());
  in.q = to_floats(q), in.k = to_floats(k), in.v = to_floats(v);
  const Results want = run(in, to_floats(d_o), s, a);
  std::vector<float> d_g(in.g.size()), d_beta(in.beta.size()), borders(static_cast<size_t>(rows * a.state_columns()));
  Context ctx;
  const Tensor tq = matrix(q, T, a.keys()), tk = matrix(k, T, a.keys()), tv = matrix(v, T, a.values()), g = matrix(in.g, T, a.decays()),
               beta = matrix(in.beta, T, a.value_heads), kept = matrix(borders, rows, a.state_columns());
  gated_delta(ctx, matrix(o, T, a.values()), kept, tq, tk, tv, g, beta, s, a);
  gated_delta_backward(ctx, matrix(d_q, T, a.keys()), matrix(d_k, T, a.keys()), matrix(d_v, T, a.values()), matrix(d_g, T, a.decays()),
                       matrix(d_beta, T, a.value_heads), matrix(d_o, T, a.values()), kept, tq, tk, tv, g, beta, s, a);
  EXPECT_EQ(to_floats(o), to_floats(to_bf16(want.o)));
  EXPECT_EQ(to_floats(d_q), to_floats(to_bf16(want.d_q)));
  EXPECT_EQ(to_floats(d_k), to_floats(to_bf16(want.d_k)));
  EXPECT_EQ(to_floats(d_v), to_floats(to_bf16(want.d_v)));
  EXPECT_EQ(d_g, want.d_g);
  EXPECT_EQ(d_beta, want.d_beta);
}

}  // namespace
}  // namespace loraine::gated_delta_test
