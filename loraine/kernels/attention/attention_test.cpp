// Attention against the full softmax in double: varlen, grouped heads, windows, chunks, softcap, sinks, values of their own width,
// sequences that share rows, decode with a cache; gradients by central differences on small cases and against the closed form on cases of
// several tiles.
#include "loraine/kernels/attention/attention.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"
#include "tests/support/sanitized.h"

namespace loraine::attention_test {
namespace {

struct Inputs {
  std::vector<float> q, k, v, d_o;  // d_o may be empty: forward only
};

std::vector<float> bf16_values(const std::vector<float>& x) { return to_floats(to_bf16(x)); }

Inputs random_inputs(int64_t T, int64_t S, const AttentionShape& a, bool of_bf16 = false) {
  Inputs in{random_floats(T * a.heads * a.head_dim, 1, 2), random_floats(S * a.kv_heads * a.head_dim, 2),
            random_floats(S * a.kv_heads * a.value_width(), 3), random_floats(T * a.heads * a.value_width(), 4)};
  if (of_bf16)
    for (std::vector<float>* x : {&in.q, &in.k, &in.v, &in.d_o}) *x = bf16_values(*x);
  return in;
}

struct Reference {
  std::vector<double> o, lse, d_q, d_k, d_v, d_sinks;  // d_sinks is added to 1
};

// Where key `j` of a sequence lies.
int64_t key_row_of(const std::vector<Sequence>& sequences, const Sequence& s, int64_t j) {
  if (j < s.shared()) return key_row_of(sequences, sequences[static_cast<size_t>(s.parent)], j);
  return s.kv_start + j - s.shared();
}

Reference reference(const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v,
                    const std::vector<double>& sinks, const std::vector<float>& d_o, const std::vector<Sequence>& sequences,
                    const AttentionShape& a) {
  int64_t D = a.head_dim, V = a.value_width(), group = a.heads / a.kv_heads;
  size_t rows = q.size() / static_cast<size_t>(D);  // of all heads
  Reference r{std::vector<double>(rows * static_cast<size_t>(V)),
              std::vector<double>(rows),
              std::vector<double>(q.size()),
              std::vector<double>(k.size()),
              std::vector<double>(v.size()),
              std::vector<double>(sinks.size(), 1.0)};
  for (const Sequence& s : sequences) {
    for (int64_t h = 0; h < a.heads; ++h) {
      for (int64_t i = 0; i < s.length; ++i) {
        int64_t last = s.kv_length - s.length + i, first = 0;
        if (a.window > 0) first = std::max(first, last - a.window + 1);
        if (a.chunk > 0) first = std::max(first, last - last % a.chunk);
        size_t row = static_cast<size_t>((s.start + i) * a.heads + h), qi = row * static_cast<size_t>(D), oi = row * static_cast<size_t>(V);
        auto key_row = [&](int64_t j) { return key_row_of(sequences, s, j) * a.kv_heads + h / group; };
        auto kj = [&](int64_t j) { return static_cast<size_t>(key_row(j) * D); };
        auto vj = [&](int64_t j) { return static_cast<size_t>(key_row(j) * V); };
        std::vector<double> p, slope;
        double sink = sinks.empty() ? -1e300 : sinks[static_cast<size_t>(h)], top = sink, delta = 0;
        for (int64_t j = first; j <= last; ++j) {
          double score = 0;
          for (size_t d = 0; d < static_cast<size_t>(D); ++d) score += q[qi + d] * k[kj(j) + d];
          score *= a.scale;
          double tanh = a.softcap > 0 ? std::tanh(score / a.softcap) : 0;
          slope.push_back(1 - tanh * tanh);
          p.push_back(a.softcap > 0 ? a.softcap * tanh : score);
          top = std::max(top, p.back());
        }
        double p_sink = std::exp(sink - top), sum = p_sink;
        for (double& x : p) sum += x = std::exp(x - top);
        r.lse[row] = top + std::log(sum);
        for (int64_t j = first; j <= last; ++j) {
          double& pj = p[static_cast<size_t>(j - first)];
          pj /= sum;
          for (size_t d = 0; d < static_cast<size_t>(V); ++d) {
            r.o[oi + d] += pj * v[vj(j) + d];
            if (!d_o.empty()) delta += pj * v[vj(j) + d] * d_o[oi + d];
          }
        }
        if (d_o.empty()) continue;
        if (!sinks.empty()) r.d_sinks[static_cast<size_t>(h)] -= p_sink / sum * delta;
        for (int64_t j = first; j <= last; ++j) {
          double pj = p[static_cast<size_t>(j - first)], d_p = 0;
          for (size_t d = 0; d < static_cast<size_t>(V); ++d) {
            d_p += d_o[oi + d] * v[vj(j) + d];
            r.d_v[vj(j) + d] += pj * d_o[oi + d];
          }
          double d_s = pj * (d_p - delta) * slope[static_cast<size_t>(j - first)] * a.scale;
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

std::vector<double> sinks_of(const AttentionShape& a) {
  return a.sinks ? std::vector<double>(a.sinks, a.sinks + a.heads) : std::vector<double>();
}

Reference reference(const Inputs& in, const std::vector<Sequence>& sequences, const AttentionShape& a) {
  return reference(doubles(in.q), doubles(in.k), doubles(in.v), sinks_of(a), in.d_o, sequences, a);
}

struct Results {
  std::vector<float> o, lse, d_q, d_k, d_v, d_sinks;
  bool operator==(const Results&) const = default;
};

std::vector<float> copy_as(const std::vector<float>& x, float) { return x; }
std::vector<bf16> copy_as(const std::vector<float>& x, bf16) { return to_bf16(x); }
std::vector<float> floats_of(const std::vector<float>& x) { return x; }
std::vector<float> floats_of(const std::vector<bf16>& x) { return to_floats(x); }

// Everything but lse and d_sinks in T; for bf16 the inputs hold values of that type.
template <class Element>
Results run_in(const Inputs& in, const std::vector<Sequence>& sequences, const AttentionShape& a) {
  const int64_t H = a.heads, G = a.kv_heads, D = a.head_dim, V = a.value_width(), T = static_cast<int64_t>(in.q.size()) / (H * D),
                S = static_cast<int64_t>(in.k.size()) / (G * D);
  std::vector<Element> q = copy_as(in.q, Element()), k = copy_as(in.k, Element()), v = copy_as(in.v, Element()),
                       d_o = copy_as(in.d_o, Element()), o(static_cast<size_t>(T * H * V)),
                       d_q = copy_as(std::vector<float>(q.size(), 7), Element()), d_k = copy_as(std::vector<float>(k.size(), 7), Element()),
                       d_v = copy_as(std::vector<float>(v.size(), 7), Element());
  std::vector<float> lse(static_cast<size_t>(T * H)), d_sinks(a.sinks ? static_cast<size_t>(H) : 0, 1.0f);
  Context ctx;
  const Tensor tq = matrix(q, T, H * D), tk = matrix(k, S, G * D), tv = matrix(v, S, G * V), to = matrix(o, T, H * V),
               tl = matrix(lse, T, H);
  attention(ctx, to, tl, tq, tk, tv, sequences, a);
  if (!d_o.empty()) {
    std::vector<float> partial(static_cast<size_t>(T * attention_partial_columns(a)));
    attention_backward(ctx, matrix(d_q, T, H * D), matrix(d_k, S, G * D), matrix(d_v, S, G * V), matrix(d_o, T, H * V), to, tl, tq, tk, tv,
                       sequences, a, matrix(partial, T, attention_partial_columns(a)), a.sinks ? d_sinks.data() : nullptr);
  }
  return {floats_of(o), lse, floats_of(d_q), floats_of(d_k), floats_of(d_v), d_sinks};
}

Results run(const Inputs& in, const std::vector<Sequence>& sequences, const AttentionShape& a, bool of_bf16 = false) {
  return of_bf16 ? run_in<bf16>(in, sequences, a) : run_in<float>(in, sequences, a);
}

struct Tolerances {
  double o, lse, d;
};
constexpr Tolerances kNear{2e-6, 2e-6, 5e-6}, kNearBf16{4e-3, 2e-6, 1e-2};

void expect_near_reference(const Inputs& in, const std::vector<Sequence>& s, const AttentionShape& a, bool of_bf16, Tolerances t) {
  const Reference want = reference(in, s, a);
  const Results got = run(in, s, a, of_bf16);
  expect_near(got.o, want.o, t.o, "o");
  expect_near(got.lse, want.lse, t.lse, "lse");
  if (in.d_o.empty()) return;
  if (a.window != 1) {
    expect_near(got.d_q, want.d_q, t.d, "d_q");
    expect_near(got.d_k, want.d_k, t.d, "d_k");
  }
  expect_near(got.d_v, want.d_v, t.d, "d_v");
  if (a.sinks) expect_near(got.d_sinks, want.d_sinks, t.d, "d_sinks");
}

void expect_same_on_any_threads(const Inputs& in, const std::vector<Sequence>& s, const AttentionShape& a, bool of_bf16) {
  const int before = omp_get_max_threads();
  const Results got = run(in, s, a, of_bf16);
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    EXPECT_TRUE(run(in, s, a, of_bf16) == got) << threads << " threads";
  }
  omp_set_num_threads(before);
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

int64_t rows_of(const std::vector<Sequence>& s) { return s.back().start + s.back().length; }

TEST(Attention, TrainingMatchesTheFullSoftmax) {
  struct Case {
    std::vector<Sequence> sequences;
    AttentionShape shape;
  };
  for (const Case& c : {Case{training({1, 7, 200, 3}), {4, 2, 16, 0, 0.25f}}, Case{training({300}), {3, 1, 8, 0, 0.4f}},
                        Case{training({150, 130}), {2, 2, 20, 33, 0.3f}}, Case{training({290}), {2, 1, 64, 1, 0.125f}}}) {
    const Inputs in = random_inputs(rows_of(c.sequences), rows_of(c.sequences), c.shape);
    expect_near_reference(in, c.sequences, c.shape, false, kNear);
    expect_same_on_any_threads(in, c.sequences, c.shape, false);
  }
}

TEST(Attention, OfBfloatActivationsIsNearTheFullSoftmax) {
  for (const AttentionShape& a :
       {AttentionShape{4, 2, 64, 0, 0.125f}, AttentionShape{2, 2, 64, 50, 0.125f}, AttentionShape{3, 1, 20, 0, 0.2f}}) {
    const std::vector<Sequence> s = training({1, 7, 320, 3, 101});
    const Inputs in = random_inputs(rows_of(s), rows_of(s), a, true);
    expect_near_reference(in, s, a, true, kNearBf16);
    expect_same_on_any_threads(in, s, a, true);
  }
}

// Of each form, alone and with others; scores reach well beyond the caps.
struct Form {
  const char* name;
  AttentionShape shape;
};
const std::vector<Form>& forms() {
  static const std::vector<float> sinks = random_floats(8, 9, 2);
  static const std::vector<Form> all = {
      {"softcap", {.heads = 2, .kv_heads = 2, .head_dim = 16, .scale = 0.25f, .softcap = 1.5f}},
      {"softcap, window, groups", {.heads = 4, .kv_heads = 2, .head_dim = 32, .window = 70, .scale = 0.2f, .softcap = 2}},
      {"sinks", {.heads = 3, .kv_heads = 3, .head_dim = 8, .scale = 0.35f, .sinks = sinks.data()}},
      {"sinks, window, groups", {.heads = 8, .kv_heads = 1, .head_dim = 64, .window = 33, .scale = 0.125f, .sinks = sinks.data()}},
      {"narrow values", {.heads = 2, .kv_heads = 2, .head_dim = 192, .scale = 0.07f, .value_dim = 128}},
      {"wide values, groups", {.heads = 6, .kv_heads = 2, .head_dim = 18, .scale = 0.25f, .value_dim = 50}},
      {"chunks", {.heads = 4, .kv_heads = 2, .head_dim = 16, .scale = 0.25f, .chunk = 90}},
      {"short chunks, window", {.heads = 2, .kv_heads = 1, .head_dim = 16, .window = 4, .scale = 0.25f, .chunk = 6}},
      {"all",
       {.heads = 6,
        .kv_heads = 2,
        .head_dim = 24,
        .window = 100,
        .scale = 0.2f,
        .softcap = 3,
        .sinks = sinks.data(),
        .value_dim = 14,
        .chunk = 128}},
  };
  return all;
}

TEST(Attention, FormsMatchTheFullSoftmax) {
  const std::vector<Sequence> s = training({1, 7, 300, 3, 101});
  for (const bool of_bf16 : {false, true})
    for (const Form& form : forms()) {
      SCOPED_TRACE(testing::Message() << form.name << (of_bf16 ? " in bf16" : ""));
      const Inputs in = random_inputs(rows_of(s), rows_of(s), form.shape, of_bf16);
      expect_near_reference(in, s, form.shape, of_bf16, of_bf16 ? kNearBf16 : kNear);
      expect_same_on_any_threads(in, s, form.shape, of_bf16);
    }
}

// Over so few keys what bf16 rounds off o, from which the backward takes Σ d_o · o, can be a hundredth of the largest gradient.
TEST(Attention, EveryWidthOfHeads) {
  const std::vector<Sequence> s = training({17, 3});
  for (const bool of_bf16 : {false, true})
    for (int64_t D = 2; D <= 576; D += kSanitized ? 14 : 2) {
      const AttentionShape a{
          .heads = 2, .kv_heads = 1, .head_dim = D, .scale = 0.5f / std::sqrt(static_cast<float>(D)), .value_dim = D <= 288 ? 0 : 578 - D};
      SCOPED_TRACE(testing::Message() << "width " << D << (of_bf16 ? " in bf16" : ""));
      expect_near_reference(random_inputs(20, 20, a, of_bf16), s, a, of_bf16, of_bf16 ? Tolerances{4e-3, 2e-6, 1.5e-2} : kNear);
    }
}

TEST(Attention, EveryNumberOfHeads) {
  const std::vector<Sequence> s = training({kSanitized ? 70 : 150, 2});
  for (const bool of_bf16 : {false, true})
    for (const auto& [heads, kv_heads] : {std::pair{1, 1}, {71, 1}, {7, 7}, {9, 3}, {40, 8}, {15, 5}, {64, 2}}) {
      const AttentionShape a{.heads = heads, .kv_heads = kv_heads, .head_dim = 10, .scale = 0.3f};
      SCOPED_TRACE(testing::Message() << heads << " heads, " << kv_heads << " of keys" << (of_bf16 ? " in bf16" : ""));
      const Inputs in = random_inputs(rows_of(s), rows_of(s), a, of_bf16);
      expect_near_reference(in, s, a, of_bf16, of_bf16 ? kNearBf16 : kNear);
      expect_same_on_any_threads(in, s, a, of_bf16);
    }
}

TEST(Attention, GradientIsThatOfTheForward) {
  const std::vector<float> sinks{0.3f, -0.5f};
  const std::vector<Sequence> s = training({5, 2});
  for (const AttentionShape& a : {AttentionShape{.heads = 2, .kv_heads = 1, .head_dim = 4, .window = 3, .scale = 0.5f},
                                  AttentionShape{.heads = 2, .kv_heads = 1, .head_dim = 4, .scale = 0.5f, .softcap = 2},
                                  AttentionShape{.heads = 2, .kv_heads = 2, .head_dim = 4, .scale = 0.5f, .sinks = sinks.data()},
                                  AttentionShape{.heads = 2, .kv_heads = 1, .head_dim = 6, .scale = 0.5f, .value_dim = 2},
                                  AttentionShape{.heads = 2, .kv_heads = 1, .head_dim = 4, .scale = 0.5f, .chunk = 2},
                                  AttentionShape{.heads = 2,
                                  .kv_heads = 1,
                                  .head_dim = 4,
                                  .window = 2,
                                  .scale = 0.5f,
                                  .softcap = 1,
                                  .sinks = sinks.data(),
                                  .value_dim = 6,
                                  .chunk = 3}}) {
    SCOPED_TRACE(testing::Message() << "softcap " << a.softcap << ", sinks " << (a.sinks != nullptr) << ", value_dim " << a.value_dim
                                    << ", chunk " << a.chunk);
    const Inputs in = random_inputs(7, 7, a);
    const Results got = run(in, s, a);
    std::vector<double> q = doubles(in.q), k = doubles(in.k), v = doubles(in.v), sink = sinks_of(a);
    auto loss = [&] { return inner(reference(q, k, v, sink, {}, s, a).o, in.d_o); };
    expect_near(got.d_q, central_differences(q, loss), 2e-6, "d_q");
    expect_near(got.d_k, central_differences(k, loss), 2e-6, "d_k");
    expect_near(got.d_v, central_differences(v, loss), 2e-6, "d_v");
    std::vector<double> d_sinks = central_differences(sink, loss);
    for (double& d : d_sinks) d += 1;
    expect_near(got.d_sinks, d_sinks, 2e-6, "d_sinks");
  }
}

// Sequences of `length` keys of which the first `shared` are those of sequence `parent`.
struct Branch {
  int64_t length, shared = 0, parent = -1;
};
std::vector<Sequence> tree(std::initializer_list<Branch> branches) {
  std::vector<Sequence> s;
  int64_t start = 0;
  for (const Branch& b : branches) {
    Sequence& one = s.emplace_back(Sequence{start, b.length - b.shared, start, b.length});
    one.parent = b.parent;
    start += one.length;
  }
  return s;
}

// A pair; a group of branches from several places, some of branches, of few rows, of a parent's shared rows alone, and two trees in turn.
const std::vector<std::vector<Sequence>>& trees() {
  static const std::vector<std::vector<Sequence>> all = {
      tree({{260}, {215, 150, 0}}),
      tree({{200}, {9}, {330, 130, 0}, {140, 139, 0}, {340, 250, 2}, {60, 40, 3}, {12, 7, 1}, {205, 130, 4}, {300, 17, 0}}),
      tree({{40}, {44, 30, 0}, {42, 30, 0}, {61, 30, 0}, {33, 30, 0}, {35, 31, 3}})};
  return all;
}

TEST(Attention, SharedRowsMatchTheFullSoftmax) {
  std::vector<AttentionShape> shapes = {{4, 2, 16, 0, 0.25f},
                                        {.heads = 16, .kv_heads = 16, .head_dim = 8, .scale = 0.35f},
                                        {.heads = 8, .kv_heads = 1, .head_dim = 64, .scale = 0.125f}};
  for (const Form& form : forms()) shapes.push_back(form.shape);
  size_t turn = 0;
  for (const std::vector<Sequence>& s : trees())
    for (const bool of_bf16 : {false, true})
      for (const AttentionShape& a : shapes) {
        const bool large = rows_of(s) > 500;  // it takes seconds: some shapes in turn, all of them with the others
        if ((large || kSanitized) && turn++ % (large && kSanitized ? 12 : 4) != 0) continue;
        SCOPED_TRACE(testing::Message() << s.size() << " sequences, " << a.heads << " heads of " << a.head_dim << ", window " << a.window
                                        << (of_bf16 ? " in bf16" : ""));
        const Inputs in = random_inputs(rows_of(s), rows_of(s), a, of_bf16);
        expect_near_reference(in, s, a, of_bf16, of_bf16 ? kNearBf16 : kNear);
        expect_same_on_any_threads(in, s, a, of_bf16);
      }
}

// The rows of every sequence by itself: shared ones several times.
TEST(Attention, SharedRowsAreAsSeparateOnes) {
  for (const std::vector<Sequence>& s : trees())
    for (const Form& form : forms()) {
      SCOPED_TRACE(testing::Message() << form.name << ", " << s.size() << " sequences");
      const AttentionShape& a = form.shape;
      const Inputs in = random_inputs(rows_of(s), rows_of(s), a);
      Inputs apart;
      std::vector<Sequence> alone;
      std::vector<int64_t> from;  // the shared batch's row of each row
      for (const Sequence& one : s) {
        const auto start = static_cast<int64_t>(from.size());
        alone.push_back({start, one.kv_length, start, one.kv_length});
        for (int64_t j = 0; j < one.kv_length; ++j) from.push_back(key_row_of(s, one, j));
      }
      std::vector<bool> seen(static_cast<size_t>(rows_of(s)));
      for (const int64_t row : from) {
        const auto take = [&](std::vector<float>& to, const std::vector<float>& of, int64_t width, float factor) {
          for (int64_t d = 0; d < width; ++d) to.push_back(factor * of[static_cast<size_t>(row * width + d)]);
        };
        take(apart.q, in.q, a.heads * a.head_dim, 1);
        take(apart.k, in.k, a.kv_heads * a.head_dim, 1);
        take(apart.v, in.v, a.kv_heads * a.value_width(), 1);
        take(apart.d_o, in.d_o, a.heads * a.value_width(), seen[static_cast<size_t>(row)] ? 0.0f : 1.0f);  // the gradient of one of them
        seen[static_cast<size_t>(row)] = true;
      }
      const Results shared = run(in, s, a), separate = run(apart, alone, a);
      const auto added_up = [&](const std::vector<float>& of, int64_t width) {
        std::vector<double> sums(static_cast<size_t>(rows_of(s) * width));
        for (size_t i = 0; i < from.size(); ++i)
          for (int64_t d = 0; d < width; ++d)
            sums[static_cast<size_t>(from[i] * width + d)] += of[i * static_cast<size_t>(width) + static_cast<size_t>(d)];
        return sums;
      };
      for (size_t i = 0; i < from.size(); ++i)
        for (int64_t d = 0; d < a.heads * a.value_width(); ++d)
          ASSERT_NEAR(separate.o[i * static_cast<size_t>(a.heads * a.value_width()) + static_cast<size_t>(d)],
                      shared.o[static_cast<size_t>(from[i] * a.heads * a.value_width() + d)], 4e-6)
              << "row " << i;
      expect_near(shared.d_q, added_up(separate.d_q, a.heads * a.head_dim), 2e-6, "d_q");
      expect_near(shared.d_k, added_up(separate.d_k, a.kv_heads * a.head_dim), 2e-6, "d_k");
      expect_near(shared.d_v, added_up(separate.d_v, a.kv_heads * a.value_width()), 2e-6, "d_v");
      if (a.sinks) expect_near(shared.d_sinks, doubles(separate.d_sinks), 2e-6, "d_sinks");
    }
}

TEST(Attention, RefusesMoreSharedRowsThanThereAre) {
  const AttentionShape a{.heads = 1, .kv_heads = 1, .head_dim = 8, .scale = 0.3f};
  const std::vector<Sequence> beyond = tree({{10}, {20, 12, 0}}), later = tree({{10}, {20, 5, 1}});
  for (const std::vector<Sequence>& s : {beyond, later}) EXPECT_THROW(run(random_inputs(rows_of(s), rows_of(s), a), s, a), Error);
}

TEST(Attention, CachedPrefillAndDecode) {
  // Two sequences decode one token, one prefills 70 rows behind 130 cached ones, one decodes 3 rows; kv rows lie elsewhere than the
  // queries.
  const std::vector<Sequence> s{{0, 1, 10, 700}, {1, 70, 800, 200}, {71, 1, 0, 1}, {72, 3, 720, 50}};
  std::vector<AttentionShape> shapes;
  for (int64_t window : {0, 40})
    for (int64_t D : {16, 64, 20}) shapes.push_back({6, 2, D, window, 1 / std::sqrt(static_cast<float>(D))});
  for (const Form& form : forms()) shapes.push_back(form.shape);
  for (const AttentionShape& a : shapes)
    for (const bool of_bf16 : {false, true}) {
      Inputs in = random_inputs(75, 1000, a, of_bf16);
      in.d_o.clear();
      expect_near_reference(in, s, a, of_bf16, of_bf16 ? kNearBf16 : kNear);
    }
}

// What a row gives does not depend on how many rows come with it: each alone behind its past, the last ones together, and all at once.
TEST(Attention, DecodingGivesWhatTheWholeSequenceGives) {
  constexpr int64_t kLength = 200, kTail = 70;
  for (const Form& form : forms()) {
    const AttentionShape& a = form.shape;
    SCOPED_TRACE(form.name);
    Inputs in = random_inputs(kLength, kLength, a);
    in.d_o.clear();
    std::vector<Sequence> alone;
    for (int64_t i = 0; i < kLength; ++i) alone.push_back({i, 1, 0, i + 1});
    const Results all = run(in, training({kLength}), a), rows = run(in, alone, a);
    expect_near(rows.o, all.o, 2e-6, "o of single rows");
    expect_near(rows.lse, all.lse, 2e-6, "lse of single rows");
    const Results tail = run(in, {{0, kLength - kTail, 0, kLength - kTail}, {kLength - kTail, kTail, 0, kLength}}, a);
    expect_near(tail.o, all.o, 2e-6, "o of two parts");
    expect_near(tail.lse, all.lse, 2e-6, "lse of two parts");
    // In other company each has the same bits.
    const Results few = run(in, {{3, 1, 0, 4}, {120, 1, 0, 121}, {130, 70, 0, 200}}, a);
    auto expect_same_row = [&](const Results& want, int64_t row) {
      const int64_t width = a.heads * a.value_width();
      for (int64_t d = 0; d < width; ++d)
        EXPECT_EQ(few.o[static_cast<size_t>(row * width + d)], want.o[static_cast<size_t>(row * width + d)]) << row;
      for (int64_t h = 0; h < a.heads; ++h)
        EXPECT_EQ(few.lse[static_cast<size_t>(row * a.heads + h)], want.lse[static_cast<size_t>(row * a.heads + h)]) << row;
    };
    expect_same_row(rows, 3);
    expect_same_row(rows, 120);
    for (int64_t row = kLength - kTail; row < kLength; ++row) expect_same_row(tail, row);
  }
}

}  // namespace
}  // namespace loraine::attention_test
