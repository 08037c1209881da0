// Attention against the full softmax in double: varlen, grouped heads, windows, decode with a cache, strided rows; gradients by central
// differences on a small case and against the closed form on cases of several tiles.
#include "loraine/kernels/attention/attention.h"

#include <omp.h>

#include "tests/support/op_check.h"

namespace loraine {
namespace {

struct Reference {
  std::vector<double> o, lse, d_q, d_k, d_v;
};

// d_o may be empty: forward only.
Reference reference(const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v, const std::vector<float>& d_o,
                    const std::vector<Sequence>& sequences, const AttentionShape& a) {
  int64_t D = a.head_dim, group = a.heads / a.kv_heads, C = a.heads * D, E = a.kv_heads * D;
  Reference r{std::vector<double>(q.size()), std::vector<double>(q.size() / static_cast<size_t>(D)), std::vector<double>(q.size()),
              std::vector<double>(k.size()), std::vector<double>(k.size())};
  for (const Sequence& s : sequences) {
    for (int64_t h = 0; h < a.heads; ++h) {
      for (int64_t i = 0; i < s.length; ++i) {
        int64_t last = s.kv_length - s.length + i, first = a.window ? std::max<int64_t>(0, last - a.window + 1) : 0;
        size_t qi = static_cast<size_t>((s.start + i) * C + h * D);
        auto kj = [&](int64_t j) { return static_cast<size_t>((s.kv_start + j) * E + h / group * D); };
        std::vector<double> p;
        double top = -1e300, sum = 0, delta = 0;
        for (int64_t j = first; j <= last; ++j) {
          double score = 0;
          for (int64_t d = 0; d < D; ++d) score += q[qi + static_cast<size_t>(d)] * k[kj(j) + static_cast<size_t>(d)];
          p.push_back(score * a.scale);
          top = std::max(top, p.back());
        }
        for (double& x : p) sum += x = std::exp(x - top);
        r.lse[static_cast<size_t>((s.start + i) * a.heads + h)] = top + std::log(sum);
        for (int64_t j = first; j <= last; ++j) {
          double& pj = p[static_cast<size_t>(j - first)];
          pj /= sum;
          for (size_t d = 0; d < static_cast<size_t>(D); ++d) {
            r.o[qi + d] += pj * v[kj(j) + d];
            if (!d_o.empty()) delta += pj * v[kj(j) + d] * d_o[qi + d];
          }
        }
        if (d_o.empty()) continue;
        for (int64_t j = first; j <= last; ++j) {
          double pj = p[static_cast<size_t>(j - first)], d_p = 0;
          for (size_t d = 0; d < static_cast<size_t>(D); ++d) {
            d_p += d_o[qi + d] * v[kj(j) + d];
            r.d_v[kj(j) + d] += pj * d_o[qi + d];
          }
          double d_s = pj * (d_p - delta) * a.scale;
          for (size_t d = 0; d < static_cast<size_t>(D); ++d) {
            r.d_q[qi + d] += d_s * k[kj(j) + d];
            r.d_k[kj(j) + d] += d_s * q[qi + d];
          }
        }
      }
    }
  }
  return r;
}

struct Results {
  std::vector<float> o, lse, d_q, d_k, d_v;
};

Results run(std::vector<float> q, std::vector<float> k, std::vector<float> v, std::vector<float> d_o,
            const std::vector<Sequence>& sequences, const AttentionShape& a) {
  int64_t T = static_cast<int64_t>(q.size()) / (a.heads * a.head_dim), S = static_cast<int64_t>(k.size()) / (a.kv_heads * a.head_dim);
  int64_t C = a.heads * a.head_dim, E = a.kv_heads * a.head_dim;
  Results r{std::vector<float>(q.size()), std::vector<float>(static_cast<size_t>(T * a.heads)), std::vector<float>(q.size(), 7.0f),
            std::vector<float>(k.size(), 7.0f), std::vector<float>(k.size(), 7.0f)};
  Context ctx;
  Tensor lse = matrix(r.lse, T, a.heads);
  attention(ctx, matrix(r.o, T, C), lse, matrix(q, T, C), matrix(k, S, E), matrix(v, S, E), sequences, a);
  if (!d_o.empty()) {
    std::vector<float> partial(static_cast<size_t>(T * attention_partial_columns(a)));
    attention_backward(ctx, matrix(r.d_q, T, C), matrix(r.d_k, S, E), matrix(r.d_v, S, E), matrix(d_o, T, C), matrix(r.o, T, C), lse,
                       matrix(q, T, C), matrix(k, S, E), matrix(v, S, E), sequences, a, matrix(partial, T, attention_partial_columns(a)));
  }
  return r;
}

std::vector<Sequence> training(std::initializer_list<int64_t> lengths) {
  std::vector<Sequence> s;
  int64_t start = 0;
  for (int64_t n : lengths) {
    s.push_back({start, n, start, n});
    start += n;
  }
  return s;
}

TEST(Attention, TrainingMatchesTheFullSoftmax) {
  struct Case {
    std::vector<Sequence> sequences;
    AttentionShape shape;
  };
  for (const Case& c : {Case{training({1, 7, 200, 3}), {4, 2, 16, 0, 0.25f}}, Case{training({300}), {3, 1, 8, 0, 0.4f}},
                        Case{training({150, 130}), {2, 2, 20, 33, 0.3f}}, Case{training({290}), {2, 1, 64, 1, 0.125f}}}) {
    const AttentionShape& a = c.shape;
    int64_t T = c.sequences.back().start + c.sequences.back().length;
    std::vector<float> q = random_floats(T * a.heads * a.head_dim, 1, 2), k = random_floats(T * a.kv_heads * a.head_dim, 2),
                       v = random_floats(T * a.kv_heads * a.head_dim, 3), d_o = random_floats(T * a.heads * a.head_dim, 4);
    Reference want = reference(doubles(q), doubles(k), doubles(v), d_o, c.sequences, a);
    Results got = run(q, k, v, d_o, c.sequences, a);
    expect_near(got.o, want.o, 2e-6, "o");
    expect_near(got.lse, want.lse, 2e-6, "lse");
    if (a.window != 1) {
      expect_near(got.d_q, want.d_q, 5e-6, "d_q");
      expect_near(got.d_k, want.d_k, 5e-6, "d_k");
    }
    expect_near(got.d_v, want.d_v, 5e-6, "d_v");
    int threads = omp_get_max_threads();
    omp_set_num_threads(threads == 1 ? 3 : 1);
    Results other = run(q, k, v, d_o, c.sequences, a);
    omp_set_num_threads(threads);
    EXPECT_EQ(got.o, other.o);
    EXPECT_EQ(got.d_q, other.d_q);
    EXPECT_EQ(got.d_k, other.d_k);
    EXPECT_EQ(got.d_v, other.d_v);
  }
}

// run() with everything but lse in BF16; the inputs hold values of that type.
Results run_bf16(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v, const std::vector<float>& d_o,
                 const std::vector<Sequence>& sequences, const AttentionShape& a) {
  const int64_t C = a.heads * a.head_dim, E = a.kv_heads * a.head_dim, T = static_cast<int64_t>(q.size()) / C,
                S = static_cast<int64_t>(k.size()) / E;
  std::vector<bf16> q16 = to_bf16(q), k16 = to_bf16(k), v16 = to_bf16(v), d_o16 = to_bf16(d_o), o(q.size()), d_q(q.size()), d_k(k.size()),
                    d_v(k.size());
  std::vector<float> lse(static_cast<size_t>(T * a.heads)), partial(static_cast<size_t>(T * attention_partial_columns(a)));
  Context ctx;
  const Tensor tq = matrix(q16, T, C), tk = matrix(k16, S, E), tv = matrix(v16, S, E), to = matrix(o, T, C), tl = matrix(lse, T, a.heads);
  attention(ctx, to, tl, tq, tk, tv, sequences, a);
  if (!d_o.empty())
    attention_backward(ctx, matrix(d_q, T, C), matrix(d_k, S, E), matrix(d_v, S, E), matrix(d_o16, T, C), to, tl, tq, tk, tv, sequences, a,
                       matrix(partial, T, attention_partial_columns(a)));
  return {to_floats(o), lse, to_floats(d_q), to_floats(d_k), to_floats(d_v)};
}

std::vector<float> bf16_values(int64_t n, uint32_t seed, float scale = 1) { return to_floats(to_bf16(random_floats(n, seed, scale))); }

TEST(Attention, OfBfloatActivationsIsNearTheFullSoftmax) {
  for (const AttentionShape& a :
       {AttentionShape{4, 2, 64, 0, 0.125f}, AttentionShape{2, 2, 64, 50, 0.125f}, AttentionShape{3, 1, 20, 0, 0.2f}}) {
    const std::vector<Sequence> s = training({1, 7, 320, 3, 101});
    const int64_t T = s.back().start + s.back().length;
    const std::vector<float> q = bf16_values(T * a.heads * a.head_dim, 1, 2), k = bf16_values(T * a.kv_heads * a.head_dim, 2),
                             v = bf16_values(T * a.kv_heads * a.head_dim, 3), d_o = bf16_values(T * a.heads * a.head_dim, 4);
    const Reference want = reference(doubles(q), doubles(k), doubles(v), d_o, s, a);
    const Results got = run_bf16(q, k, v, d_o, s, a);
    expect_near(got.o, want.o, 4e-3, "o");
    expect_near(got.lse, want.lse, 2e-6, "lse");
    expect_near(got.d_q, want.d_q, 1e-2, "d_q");
    expect_near(got.d_k, want.d_k, 1e-2, "d_k");
    expect_near(got.d_v, want.d_v, 1e-2, "d_v");
    const int threads = omp_get_max_threads();
    omp_set_num_threads(threads == 1 ? 3 : 1);
    const Results other = run_bf16(q, k, v, d_o, s, a);
    omp_set_num_threads(threads);
    EXPECT_EQ(got.o, other.o);
    EXPECT_EQ(got.d_q, other.d_q);
    EXPECT_EQ(got.d_k, other.d_k);
    EXPECT_EQ(got.d_v, other.d_v);
  }
}

TEST(Attention, GradientIsThatOfTheForward) {
  AttentionShape a{2, 1, 4, 3, 0.5f};
  std::vector<Sequence> s = training({5, 2});
  std::vector<float> q = random_floats(7 * 8, 1), k = random_floats(7 * 4, 2), v = random_floats(7 * 4, 3), d_o = random_floats(7 * 8, 4);
  Results got = run(q, k, v, d_o, s, a);
  std::vector<double> qd = doubles(q), kd = doubles(k), vd = doubles(v);
  auto loss = [&] { return inner(reference(qd, kd, vd, {}, s, a).o, d_o); };
  expect_near(got.d_q, central_differences(qd, loss), 2e-6, "d_q");
  expect_near(got.d_k, central_differences(kd, loss), 2e-6, "d_k");
  expect_near(got.d_v, central_differences(vd, loss), 2e-6, "d_v");
}

TEST(Attention, CachedPrefillAndDecode) {
  // Two sequences decode one token, one prefills 70 rows behind 130 cached ones, one decodes 3 rows; kv rows lie elsewhere than the
  // queries.
  std::vector<Sequence> s{{0, 1, 10, 700}, {1, 70, 800, 200}, {71, 1, 0, 1}, {72, 3, 720, 50}};
  for (int64_t window : {0, 40}) {
    for (int64_t D : {16, 64, 20}) {
      AttentionShape a{6, 2, D, window, 1 / std::sqrt(static_cast<float>(D))};
      std::vector<float> q = random_floats(75 * 6 * D, 1, 2), k = random_floats(1000 * 2 * D, 2), v = random_floats(1000 * 2 * D, 3);
      Reference want = reference(doubles(q), doubles(k), doubles(v), {}, s, a);
      Results got = run(q, k, v, {}, s, a);
      expect_near(got.o, want.o, 2e-6, "o");
      expect_near(got.lse, want.lse, 2e-6, "lse");
      q = to_floats(to_bf16(q)), k = to_floats(to_bf16(k)), v = to_floats(to_bf16(v));
      want = reference(doubles(q), doubles(k), doubles(v), {}, s, a);
      got = run_bf16(q, k, v, {}, s, a);
      expect_near(got.o, want.o, 4e-3, "o of bf16");
      expect_near(got.lse, want.lse, 2e-6, "lse of bf16");
    }
  }
}

}  // namespace
}  // namespace loraine
