// Mamba's scan against the recurrence in double: gradients by central differences, pieces with a state, packed sequences.
#include "loraine/kernels/recurrent/selective_scan.h"

#include "loraine/kernels/recurrent/recurrent_test.h"
#include "tests/support/op_check.h"

namespace loraine::selective_scan_test {
namespace {

template <class T>
struct Inputs {
  std::vector<T> x, B, C, dt;
};

template <class T>
struct Weights {
  std::vector<T> A_log, D;
};

std::vector<double> reference(const Inputs<double>& in, const Weights<double>& w, const std::vector<Sequence>& sequences,
                              const SelectiveScanShape& a) {
  std::vector<double> y(in.x.size());
  for (const Sequence& s : sequences)
    for (int64_t c = 0; c < a.channels; ++c)
      for (int64_t n = 0; n < a.state; ++n) {
        const double A = -std::exp(w.A_log[static_cast<size_t>(c * a.state + n)]);
        double h = 0;
        for (int64_t t = s.start; t < s.start + s.length; ++t) {
          const auto at = static_cast<size_t>(t * a.channels + c), key = static_cast<size_t>(t * a.state + n);
          const double dt = in.dt[at] > 20 ? in.dt[at] : std::log1p(std::exp(in.dt[at]));
          h = h * std::exp(dt * A) + dt * in.B[key] * in.x[at];
          y[at] += h * in.C[key] + (n == 0 ? w.D[static_cast<size_t>(c)] * in.x[at] : 0);
        }
      }
  return y;
}

Inputs<float> random_inputs(int64_t T, const SelectiveScanShape& a) {
  return {random_floats(T * a.channels, 1), random_floats(T * a.state, 2), random_floats(T * a.state, 3),
          random_floats(T * a.channels, 4, 2)};
}
Inputs<double> doubles_of(const Inputs<float>& in) { return {doubles(in.x), doubles(in.B), doubles(in.C), doubles(in.dt)}; }
Weights<double> doubles_of(const Weights<float>& w) { return {doubles(w.A_log), doubles(w.D)}; }
Weights<float> random_weights(const SelectiveScanShape& a, float A) {
  Weights<float> w{random_floats(a.channels * a.state, 5), random_floats(a.channels, 6)};
  for (float& x : w.A_log) x += std::log(A);
  return w;
}

// Borders are planned for the largest batch of a run: here there is room for one more.
struct Results {
  std::vector<float> y, d_x, d_B, d_C, d_dt, d_A_log, d_D;
  bool operator==(const Results&) const = default;
};

// trained: A_log and D have gradients too.
Results run(Inputs<float> in, Weights<float> w, std::vector<float> d_y, const std::vector<Sequence>& sequences, const SelectiveScanShape& a,
            bool trained = false) {
  const int64_t E = a.channels, N = a.state, T = static_cast<int64_t>(in.x.size()) / E, rows = recurrent_border_rows(T) + 1,
                columns = selective_scan_partial_columns(a);
  std::vector<float> borders(static_cast<size_t>(rows * a.state_columns())), partial(static_cast<size_t>(T * columns));
  Results r{std::vector<float>(in.x.size()),
            std::vector<float>(in.x.size()),
            std::vector<float>(in.B.size()),
            std::vector<float>(in.C.size()),
            std::vector<float>(in.x.size()),
            {},
            {}};
  if (trained) r.d_A_log.resize(w.A_log.size()), r.d_D.resize(w.D.size());
  Context ctx;
  const Tensor x = matrix(in.x, T, E), B = matrix(in.B, T, N), C = matrix(in.C, T, N), dt = matrix(in.dt, T, E), A = matrix(w.A_log, E, N),
               D(w.D.data(), Dtype::F32, {E}), kept = matrix(borders, rows, a.state_columns());
  selective_scan(ctx, matrix(r.y, T, E), kept, x, B, C, dt, A, D, sequences, a);
  selective_scan_backward(ctx, matrix(r.d_x, T, E), matrix(r.d_B, T, N), matrix(r.d_C, T, N), matrix(r.d_dt, T, E),
                          trained ? matrix(r.d_A_log, E, N) : Tensor(), trained ? Tensor(r.d_D.data(), Dtype::F32, {E}) : Tensor(),
                          matrix(d_y, T, E), kept, x, B, C, dt, A, D, sequences, a, matrix(partial, T, columns));
  return r;
}

TEST(SelectiveScan, GradientIsThatOfTheRecurrence) {
  for (auto [a, s] :
       {std::pair{SelectiveScanShape{5, 3}, whole_sequences({3, 67, 9})}, {SelectiveScanShape{40, 2}, whole_sequences({1, 9})}}) {
    const int64_t T = rows_of(s);
    const Inputs<float> in = random_inputs(T, a);
    const Weights<float> w = random_weights(a, 0.2f);
    const std::vector<float> d_y = random_floats(T * a.channels, 8);
    const Results got = run(in, w, d_y, s, a, true);
    Inputs<double> d = doubles_of(in);
    Weights<double> weights = doubles_of(w);
    expect_near(got.y, reference(d, weights, s, a), 3e-6, "y");
    auto loss = [&, &a = a, &s = s] { return inner(reference(d, weights, s, a), d_y); };
    expect_near(got.d_x, central_differences(d.x, loss), 5e-6, "d_x");
    expect_near(got.d_B, central_differences(d.B, loss), 5e-6, "d_B");
    expect_near(got.d_C, central_differences(d.C, loss), 5e-6, "d_C");
    expect_near(got.d_dt, central_differences(d.dt, loss), 5e-6, "d_dt_raw");
    expect_near(got.d_A_log, central_differences(weights.A_log, loss), 5e-6, "d_A_log");
    expect_near(got.d_D, central_differences(weights.D, loss), 5e-6, "d_D");
    Results frozen = run(in, w, d_y, s, a);
    frozen.d_A_log = got.d_A_log, frozen.d_D = got.d_D;
    EXPECT_TRUE(frozen == got);
  }
}

TEST(SelectiveScan, HasTheSameBitsPackedAloneAndOnAnyThreads) {
  const SelectiveScanShape a{700, 16};
  const std::vector<Sequence> s = whole_sequences({70, 3, 64, 65});
  const int64_t T = rows_of(s);
  const Inputs<float> in = random_inputs(T, a);
  const Weights<float> w = random_weights(a, 0.2f);
  const std::vector<float> d_y = random_floats(T * a.channels, 8);
  const Results all = with_threads(1, [&] { return run(in, w, d_y, s, a, true); });
  for (int threads : {2, 3}) EXPECT_TRUE(all == with_threads(threads, [&] { return run(in, w, d_y, s, a, true); }));
  for (const Sequence& one : s) {
    auto part = [&](const std::vector<float>& x) {
      const auto columns = static_cast<int64_t>(x.size()) / T;
      return std::vector<float>(x.begin() + one.start * columns, x.begin() + (one.start + one.length) * columns);
    };
    const Results alone = run({part(in.x), part(in.B), part(in.C), part(in.dt)}, w, part(d_y), whole_sequences({one.length}), a);
    EXPECT_TRUE((alone == Results{part(all.y), part(all.d_x), part(all.d_B), part(all.d_C), part(all.d_dt), {}, {}}));
  }
}

TEST(SelectiveScan, PiecesWithAStateAreTheWholeToTheBit) {
  const SelectiveScanShape a{40, 8};
  const int64_t T = 150;
  Inputs<float> in = random_inputs(T, a);
  Weights<float> w = random_weights(a, 0.1f);
  const Results whole = run(in, w, random_floats(T * a.channels, 8), whole_sequences({T}), a);
  const Tensor A = matrix(w.A_log, a.channels, a.state), D(w.D.data(), Dtype::F32, {a.channels});
  for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{64, 86}, {1, 100, 49}, std::vector<int64_t>(150, 1)}) {
    std::vector<float> y(in.x.size()), states(static_cast<size_t>(2 * a.state_columns()), 7.0f);
    Context ctx;
    int64_t at = 0;
    for (int64_t n : pieces) {
      auto rows = [&](std::vector<float>& x, int64_t columns) { return matrix(x, T, columns).row_range(at, n); };
      const std::vector<Sequence> s{{0, n, 0, at + n}};
      const std::vector<int64_t> slots{1};
      selective_scan(ctx, rows(y, a.channels), {}, rows(in.x, a.channels), rows(in.B, a.state), rows(in.C, a.state),
                     rows(in.dt, a.channels), A, D, s, a, {matrix(states, 2, a.state_columns()), slots});
      at += n;
    }
    EXPECT_EQ(y, whole.y);
  }
}

TEST(SelectiveScan, LongSequencesStayFiniteForAllDecays) {
  const SelectiveScanShape a{3, 4};
  const std::vector<Sequence> s = whole_sequences({1000});
  for (float A : {1e-8f, 1.0f, 1e4f}) {
    const Inputs<float> in = random_inputs(1000, a);
    const Weights<float> w = random_weights(a, A);
    const Results got = run(in, w, random_floats(1000 * a.channels, 8), s, a);
    expect_near(got.y, reference(doubles_of(in), doubles_of(w), s, a), 1e-5, "y");
    for (const std::vector<float>* x : {&got.d_x, &got.d_B, &got.d_C, &got.d_dt})
      for (float e : *x) ASSERT_TRUE(std::isfinite(e)) << A;
  }
}

TEST(SelectiveScan, OfBfloatActivationsIsThatOfTheirValues) {
  const SelectiveScanShape a{40, 4};
  const std::vector<Sequence> s = whole_sequences({70});
  const int64_t T = 70, columns = selective_scan_partial_columns(a);
  Inputs<float> in = random_inputs(T, a);
  Weights<float> w = random_weights(a, 0.2f);
  std::vector<bf16> x = to_bf16(in.x), B = to_bf16(in.B), C = to_bf16(in.C), dt = to_bf16(in.dt),
                    d_y = to_bf16(random_floats(T * a.channels, 8)), y(x.size()), d_x(x.size()), d_B(B.size()), d_C(C.size()),
                    d_dt(dt.size());
  const Results want = run({to_floats(x), to_floats(B), to_floats(C), to_floats(dt)}, w, to_floats(d_y), s, a);
  std::vector<float> borders(static_cast<size_t>(a.state_columns())), partial(static_cast<size_t>(T * columns));
  Context ctx;
  const Tensor tx = matrix(x, T, a.channels), tB = matrix(B, T, a.state), tC = matrix(C, T, a.state), tdt = matrix(dt, T, a.channels),
               A = matrix(w.A_log, a.channels, a.state), D(w.D.data(), Dtype::F32, {a.channels}),
               kept = matrix(borders, 1, a.state_columns());
  selective_scan(ctx, matrix(y, T, a.channels), kept, tx, tB, tC, tdt, A, D, s, a);
  selective_scan_backward(ctx, matrix(d_x, T, a.channels), matrix(d_B, T, a.state), matrix(d_C, T, a.state), matrix(d_dt, T, a.channels),
                          {}, {}, matrix(d_y, T, a.channels), kept, tx, tB, tC, tdt, A, D, s, a, matrix(partial, T, columns));
  EXPECT_EQ(to_floats(y), to_floats(to_bf16(want.y)));
  EXPECT_EQ(to_floats(d_x), to_floats(to_bf16(want.d_x)));
  EXPECT_EQ(to_floats(d_B), to_floats(to_bf16(want.d_B)));
  EXPECT_EQ(to_floats(d_C), to_floats(to_bf16(want.d_C)));
  EXPECT_EQ(to_floats(d_dt), to_floats(to_bf16(want.d_dt)));
}

}  // namespace
}  // namespace loraine::selective_scan_test
