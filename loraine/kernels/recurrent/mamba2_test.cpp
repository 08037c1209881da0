// Mamba-2's scan against the recurrence in double: gradients by central differences, pieces with a state, packed sequences, decays of all
// sizes.
#include "loraine/kernels/recurrent/mamba2.h"

#include "loraine/kernels/recurrent/recurrent_test.h"
#include "tests/support/op_check.h"

namespace loraine::mamba2_test {
namespace {

template <class T>
struct Inputs {
  std::vector<T> x, B, C, dt, A_log, D, dt_bias;
};

// Row by row; with raw pointers, as the differences below call it some thousand times.
std::vector<double> reference(const Inputs<double>& in, const std::vector<Sequence>& sequences, const Mamba2Shape& a) {
  const int64_t P = a.head_dim, N = a.state;
  std::vector<double> out(in.x.size()), states(static_cast<size_t>(N * P));
  double *y = out.data(), *state = states.data();
  for (const Sequence& s : sequences) {
    for (int64_t h = 0; h < a.heads; ++h) {
      const double A = -std::exp(in.A_log.data()[h]), D = in.D.data()[h], bias = in.dt_bias.data()[h];
      std::fill_n(state, N * P, 0.0);
      for (int64_t t = s.start; t < s.start + s.length; ++t) {
        const double z = in.dt.data()[t * a.heads + h] + bias;
        const double dt = std::clamp(z > 20 ? z : std::log1p(std::exp(z)), double(a.dt_min), double(a.dt_max)), decay = std::exp(dt * A);
        const int64_t keys = t * a.keys() + h / (a.heads / a.groups) * N, at = t * a.width() + h * P;
        const double *B = in.B.data() + keys, *C = in.C.data() + keys, *x = in.x.data() + at;
        for (int64_t p = 0; p < P; ++p) {
          double sum = D * x[p];
          for (int64_t n = 0; n < N; ++n) {
            double& e = state[n * P + p];
            e = e * decay + dt * B[n] * x[p];
            sum += e * C[n];
          }
          y[at + p] = sum;
        }
      }
    }
  }
  return out;
}

Inputs<float> random_inputs(int64_t T, const Mamba2Shape& a, float A) {
  Inputs<float> in{random_floats(T * a.width(), 1), random_floats(T * a.keys(), 2),  random_floats(T * a.keys(), 3),
                   random_floats(T * a.heads, 4),   random_floats(a.heads, 5, 0.5f), random_floats(a.heads, 6),
                   random_floats(a.heads, 7)};
  for (float& x : in.A_log) x += std::log(A);
  return in;
}

Inputs<double> doubles_of(const Inputs<float>& in) {
  return {doubles(in.x), doubles(in.B), doubles(in.C), doubles(in.dt), doubles(in.A_log), doubles(in.D), doubles(in.dt_bias)};
}

Mamba2Weights weights_of(Inputs<float>& in, int64_t heads) {
  auto tensor = [&](std::vector<float>& x) { return Tensor(x.data(), Dtype::F32, {heads}); };
  return {tensor(in.A_log), tensor(in.D), tensor(in.dt_bias)};
}

// Borders are planned for the largest batch of a run: here there is room for one more.
struct Results {
  std::vector<float> y;
  Inputs<float> d;
};

Results run(Inputs<float> in, std::vector<float> d_y, const std::vector<Sequence>& sequences, const Mamba2Shape& a) {
  const int64_t T = static_cast<int64_t>(in.x.size()) / a.width(), rows = recurrent_border_rows(T) + 1, columns = mamba2_partial_columns(a);
  std::vector<float> borders(static_cast<size_t>(rows * a.state_columns())), partial(static_cast<size_t>(T * columns));
  Results r{std::vector<float>(in.x.size()), in};
  Context ctx;
  const Tensor x = matrix(in.x, T, a.width()), B = matrix(in.B, T, a.keys()), C = matrix(in.C, T, a.keys()), dt = matrix(in.dt, T, a.heads),
               kept = matrix(borders, rows, a.state_columns());
  const Mamba2Weights w = weights_of(in, a.heads), d_w = weights_of(r.d, a.heads);
  mamba2(ctx, matrix(r.y, T, a.width()), kept, x, B, C, dt, w, sequences, a);
  mamba2_backward(ctx, matrix(r.d.x, T, a.width()), matrix(r.d.B, T, a.keys()), matrix(r.d.C, T, a.keys()), matrix(r.d.dt, T, a.heads), d_w,
                  matrix(d_y, T, a.width()), kept, x, B, C, dt, w, sequences, a, matrix(partial, T, columns));
  return r;
}

void expect_same(const Results& a, const Results& b) {
  EXPECT_EQ(a.y, b.y);
  EXPECT_EQ(a.d.x, b.d.x);
  EXPECT_EQ(a.d.B, b.d.B);
  EXPECT_EQ(a.d.C, b.d.C);
  EXPECT_EQ(a.d.dt, b.d.dt);
}

TEST(Mamba2, GradientIsThatOfTheRecurrence) {
  struct Case {
    Mamba2Shape shape;
    float A;
    std::vector<Sequence> sequences;
  };
  for (const Case& c : {Case{{4, 2, 2, 3}, 0.1f, whole_sequences({1, 130})}, Case{{3, 4, 1, 2, 0.3f, 1.5f}, 1, whole_sequences({3, 66})},
                        Case{{17, 1, 1, 2}, 0.5f, whole_sequences({66, 4})}}) {
    const Mamba2Shape& a = c.shape;
    const int64_t T = rows_of(c.sequences);
    const Inputs<float> in = random_inputs(T, a, c.A);
    const std::vector<float> d_y = random_floats(T * a.width(), 8);
    const Results got = run(in, d_y, c.sequences, a);
    Inputs<double> d = doubles_of(in);
    expect_near(got.y, reference(d, c.sequences, a), 3e-6, "y");
    auto loss = [&] { return inner(reference(d, c.sequences, a), d_y); };
    expect_near(got.d.x, central_differences(d.x, loss), 1e-5, "d_x");
    expect_near(got.d.B, central_differences(d.B, loss), 1e-5, "d_B");
    expect_near(got.d.C, central_differences(d.C, loss), 1e-5, "d_C");
    expect_near(got.d.dt, central_differences(d.dt, loss), 1e-5, "d_dt_raw");
    expect_near(got.d.A_log, central_differences(d.A_log, loss), 1e-5, "d_A_log");
    expect_near(got.d.D, central_differences(d.D, loss), 1e-5, "d_D");
    expect_near(got.d.dt_bias, central_differences(d.dt_bias, loss), 1e-5, "d_dt_bias");
  }
}

TEST(Mamba2, HasTheSameBitsPackedAloneAndOnAnyThreads) {
  const Mamba2Shape a{40, 16, 2, 24};
  const std::vector<Sequence> s = whole_sequences({150, 3, 64, 65});
  const int64_t T = rows_of(s);
  const Inputs<float> in = random_inputs(T, a, 0.2f);
  const std::vector<float> d_y = random_floats(T * a.width(), 8);
  const Results all = with_threads(1, [&] { return run(in, d_y, s, a); });
  for (int threads : {2, 3}) {
    const Results other = with_threads(threads, [&] { return run(in, d_y, s, a); });
    expect_same(all, other);
    EXPECT_EQ(all.d.A_log, other.d.A_log);
  }
  for (const Sequence& one : s) {
    auto part = [&](const std::vector<float>& x) {
      const auto columns = static_cast<int64_t>(x.size()) / T;
      return std::vector<float>(x.begin() + one.start * columns, x.begin() + (one.start + one.length) * columns);
    };
    const Results alone =
        run({part(in.x), part(in.B), part(in.C), part(in.dt), in.A_log, in.D, in.dt_bias}, part(d_y), whole_sequences({one.length}), a);
    expect_same(alone, {part(all.y), {part(all.d.x), part(all.d.B), part(all.d.C), part(all.d.dt), {}, {}, {}}});
  }
}

TEST(Mamba2, PiecesWithAStateAreTheWhole) {
  const Mamba2Shape a{40, 8, 2, 12};
  const int64_t T = 203;
  Inputs<float> in = random_inputs(T, a, 0.1f);
  const std::vector<double> want = reference(doubles_of(in), whole_sequences({T}), a);
  for (const std::vector<int64_t>& pieces :
       {std::vector<int64_t>{203}, {64, 139}, {1, 100, 100, 2}, {8, 9, 65, 121}, std::vector<int64_t>(203, 1)}) {
    std::vector<float> y(in.x.size()), states(static_cast<size_t>(2 * a.state_columns()), 7.0f);
    Context ctx;
    int64_t at = 0;
    for (int64_t n : pieces) {
      auto rows = [&](std::vector<float>& x, int64_t columns) { return matrix(x, T, columns).row_range(at, n); };
      const std::vector<Sequence> s{{0, n, 0, at + n}};
      const std::vector<int64_t> slots{1};
      mamba2(ctx, rows(y, a.width()), {}, rows(in.x, a.width()), rows(in.B, a.keys()), rows(in.C, a.keys()), rows(in.dt, a.heads),
             weights_of(in, a.heads), s, a, {matrix(states, 2, a.state_columns()), slots});
      at += n;
    }
    expect_near(y, want, 3e-6, "y");
    for (int64_t i = 0; i < a.state_columns(); ++i) ASSERT_EQ(states[static_cast<size_t>(i)], 7);
  }
}

TEST(Mamba2, LongSequencesStayFiniteForAllDecays) {
  const Mamba2Shape a{2, 8, 1, 16};
  const std::vector<Sequence> s = whole_sequences({1000});
  for (float A : {1e-8f, 1e-3f, 3.0f, 1e3f}) {
    Inputs<float> in = random_inputs(1000, a, A);
    for (size_t i = 0; i < in.dt.size(); i += 5) in.dt[i] = i % 2 ? 60.0f : -60.0f;
    const Results got = run(in, random_floats(1000 * a.width(), 8), s, a);
    expect_near(got.y, reference(doubles_of(in), s, a), 1e-5, "y");
    for (const std::vector<float>* x : {&got.d.x, &got.d.B, &got.d.C, &got.d.dt, &got.d.A_log, &got.d.D, &got.d.dt_bias})
      for (float e : *x) ASSERT_TRUE(std::isfinite(e)) << A;
  }
}

TEST(Mamba2, OfBfloatActivationsIsThatOfTheirValues) {
  const Mamba2Shape a{4, 8, 2, 6};
  const std::vector<Sequence> s = whole_sequences({100, 30});
  const int64_t T = 130, rows = recurrent_border_rows(T) + 1, columns = mamba2_partial_columns(a);
  Inputs<float> in = random_inputs(T, a, 0.1f);
  std::vector<bf16> x = to_bf16(in.x), B = to_bf16(in.B), C = to_bf16(in.C), dt = to_bf16(in.dt),
                    d_y = to_bf16(random_floats(T * a.width(), 8)), y(x.size()), d_x(x.size()), d_B(B.size()), d_C(C.size()),
                    d_dt(dt.size());
  in.x = to_floats(x), in.B = to_floats(B), in.C = to_floats(C), in.dt = to_floats(dt);
  const Results want = run(in, to_floats(d_y), s, a);
  std::vector<float> borders(static_cast<size_t>(rows * a.state_columns())), partial(static_cast<size_t>(T * columns));
  Context ctx;
  const Tensor tx = matrix(x, T, a.width()), tB = matrix(B, T, a.keys()), tC = matrix(C, T, a.keys()), tdt = matrix(dt, T, a.heads),
               kept = matrix(borders, rows, a.state_columns());
  mamba2(ctx, matrix(y, T, a.width()), kept, tx, tB, tC, tdt, weights_of(in, a.heads), s, a);
  mamba2_backward(ctx, matrix(d_x, T, a.width()), matrix(d_B, T, a.keys()), matrix(d_C, T, a.keys()), matrix(d_dt, T, a.heads), {},
                  matrix(d_y, T, a.width()), kept, tx, tB, tC, tdt, weights_of(in, a.heads), s, a, matrix(partial, T, columns));
  EXPECT_EQ(to_floats(y), to_floats(to_bf16(want.y)));
  EXPECT_EQ(to_floats(d_x), to_floats(to_bf16(want.d.x)));
  EXPECT_EQ(to_floats(d_B), to_floats(to_bf16(want.d.B)));
  EXPECT_EQ(to_floats(d_C), to_floats(to_bf16(want.d.C)));
  EXPECT_EQ(to_floats(d_dt), to_floats(to_bf16(want.d.dt)));
}

}  // namespace
}  // namespace loraine::mamba2_test
