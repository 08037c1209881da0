// Lightning attention against its recurrence in double.
#include "loraine/kernels/recurrent/lightning.h"

#include "loraine/kernels/recurrent/recurrent_test.h"
#include "tests/support/op_check.h"

namespace loraine::lightning_test {
namespace {

struct Inputs {
  std::vector<double> q, k, v;
};

std::vector<double> reference(const Inputs& in, const std::vector<float>& decay, const std::vector<Sequence>& sequences,
                              const LightningShape& a) {
  std::vector<double> out(in.v.size()), state(static_cast<size_t>(a.key_dim * a.value_dim));
  double *o = out.data(), *S = state.data();
  for (const Sequence& s : sequences)
    for (int64_t h = 0; h < a.heads; ++h) {
      const double by = std::exp(double(decay[static_cast<size_t>(h)]));
      std::fill_n(S, a.key_dim * a.value_dim, 0.0);
      for (int64_t t = s.start; t < s.start + s.length; ++t) {
        const int64_t key = t * a.keys() + h * a.key_dim, value = t * a.values() + h * a.value_dim;
        for (int64_t c = 0; c < a.key_dim; ++c)
          for (int64_t d = 0; d < a.value_dim; ++d) {
            double& e = S[c * a.value_dim + d];
            e = e * by + in.k.data()[key + c] * in.v.data()[value + d];
            o[value + d] += e * in.q.data()[key + c];
          }
      }
    }
  return out;
}

// Borders are planned for the largest batch of a run: here there is room for one more.
struct Results {
  std::vector<float> o, d_q, d_k, d_v;
  bool operator==(const Results&) const = default;
};

Results run(std::vector<float> q, std::vector<float> k, std::vector<float> v, std::vector<float> d_o, std::vector<float> decay,
            const std::vector<Sequence>& sequences, const LightningShape& a) {
  const int64_t T = static_cast<int64_t>(v.size()) / a.values(), rows = recurrent_border_rows(T) + 1;
  std::vector<float> borders(static_cast<size_t>(rows * a.state_columns()));
  Results r{std::vector<float>(v.size()), std::vector<float>(q.size()), std::vector<float>(k.size()), std::vector<float>(v.size())};
  Context ctx;
  const Tensor tq = matrix(q, T, a.keys()), tk = matrix(k, T, a.keys()), tv = matrix(v, T, a.values()),
               kept = matrix(borders, rows, a.state_columns()), rates(decay.data(), Dtype::F32, {a.heads});
  lightning_attention(ctx, matrix(r.o, T, a.values()), kept, tq, tk, tv, rates, sequences, a);
  lightning_attention_backward(ctx, matrix(r.d_q, T, a.keys()), matrix(r.d_k, T, a.keys()), matrix(r.d_v, T, a.values()),
                               matrix(d_o, T, a.values()), kept, tq, tk, tv, rates, sequences, a);
  return r;
}

TEST(Lightning, GradientIsThatOfTheRecurrence) {
  const LightningShape a{3, 2, 3};
  const std::vector<float> decay{-1e-3f, -0.3f, -40};
  const std::vector<Sequence> s = whole_sequences({2, 130, 10});
  const int64_t T = rows_of(s);
  const std::vector<float> q = random_floats(T * a.keys(), 1), k = random_floats(T * a.keys(), 2), v = random_floats(T * a.values(), 3),
                           d_o = random_floats(T * a.values(), 4);
  const Results got = with_threads(1, [&] { return run(q, k, v, d_o, decay, s, a); });
  Inputs in{doubles(q), doubles(k), doubles(v)};
  expect_near(got.o, reference(in, decay, s, a), 3e-6, "o");
  // Linear in each of q, k and v: any step gives the gradient.
  auto loss = [&] { return inner(reference(in, decay, s, a), d_o); };
  expect_near(got.d_q, central_differences(in.q, loss), 5e-6, "d_q");
  expect_near(got.d_k, central_differences(in.k, loss), 5e-6, "d_k");
  expect_near(got.d_v, central_differences(in.v, loss), 5e-6, "d_v");
  for (int threads : {2, 3}) EXPECT_TRUE(got == with_threads(threads, [&] { return run(q, k, v, d_o, decay, s, a); }));
}

TEST(Lightning, PiecesWithAStateAreTheWhole) {
  const LightningShape a{2, 16, 24};
  const int64_t T = 203;
  std::vector<float> q = random_floats(T * a.keys(), 1), k = random_floats(T * a.keys(), 2), v = random_floats(T * a.values(), 3),
                     decay{-0.01f, -0.5f};
  const std::vector<double> want = reference({doubles(q), doubles(k), doubles(v)}, decay, whole_sequences({T}), a);
  const Tensor rates(decay.data(), Dtype::F32, {2});
  for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{203}, {1, 100, 100, 2}, {8, 9, 65, 121}, std::vector<int64_t>(203, 1)}) {
    std::vector<float> o(v.size()), states(static_cast<size_t>(a.state_columns()), 7.0f);
    Context ctx;
    int64_t at = 0;
    for (int64_t n : pieces) {
      auto rows = [&](std::vector<float>& x, int64_t columns) { return matrix(x, T, columns).row_range(at, n); };
      const std::vector<Sequence> s{{0, n, 0, at + n}};
      const std::vector<int64_t> slots{0};
      lightning_attention(ctx, rows(o, a.values()), {}, rows(q, a.keys()), rows(k, a.keys()), rows(v, a.values()), rates, s, a,
                          {matrix(states, 1, a.state_columns()), slots});
      at += n;
    }
    expect_near(o, want, 3e-6, "o");
  }
}

}  // namespace
}  // namespace loraine::lightning_test
