// Routers of all kinds against their formulas in double, gradients by central differences of those; ties, masks, groups; any number of
// threads.
#include "loraine/kernels/experts/router.h"

#include <omp.h>

#include <limits>
#include <numeric>
#include <optional>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::router_test {
namespace {

using Indices = std::vector<int64_t>;

// The k largest of those allowed, of equals the lower index first.
Indices largest(const std::vector<double>& value, const std::vector<bool>& allowed, int64_t k) {
  Indices order(value.size());
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int64_t e) { return !allowed[static_cast<size_t>(e)]; });
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return value[static_cast<size_t>(a)] > value[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(k));
  return order;
}

std::vector<double> softmax(const std::vector<double>& x, const std::vector<bool>& allowed) {
  double m = -1e300, sum = 0;
  for (size_t i = 0; i < x.size(); ++i)
    if (allowed[i]) m = std::max(m, x[i]);
  std::vector<double> p(x.size());
  for (size_t i = 0; i < x.size(); ++i) sum += p[i] = allowed[i] ? std::exp(x[i] - m) : 0;
  for (double& v : p) v /= sum;
  return p;
}

struct Routed {
  Indices chosen;
  std::vector<double> weights;
};

Routed reference_row(const std::vector<double>& s, const RouterShape& shape, const std::vector<float>& correction,
                     const std::vector<float>& expert_scale) {
  const size_t E = s.size();
  const std::vector<bool> all(E, true);
  Routed out;
  if (shape.scores == RouterScores::sparse_mixer) {
    std::vector<bool> left = all;
    for (int64_t k = 0; k < shape.per_token; ++k) {
      const auto best = static_cast<size_t>(largest(s, left, 1)[0]);
      std::vector<bool> near = left;
      for (size_t e = 0; e < E; ++e)
        if ((s[best] - s[e]) / std::max(std::abs(s[e]), s[best]) > 2 * static_cast<double>(shape.jitter)) near[e] = false;
      out.chosen.push_back(static_cast<int64_t>(best));
      out.weights.push_back(softmax(s, near)[best]);
      left[best] = false;
    }
  } else {
    std::vector<double> p = softmax(s, all);
    if (shape.scores == RouterScores::sigmoid)
      for (size_t e = 0; e < E; ++e) p[e] = 1 / (1 + std::exp(-s[e]));
    std::vector<double> value = shape.scores == RouterScores::chosen_softmax ? s : p;
    for (size_t e = 0; e < E && !correction.empty(); ++e) value[e] += static_cast<double>(correction[e]);
    std::vector<bool> allowed = all;
    if (shape.groups > 1) {
      const size_t size = E / static_cast<size_t>(shape.groups);
      std::vector<double> of_group;
      for (size_t g = 0; g < E; g += size) {
        std::vector<double> in(value.begin() + static_cast<std::ptrdiff_t>(g), value.begin() + static_cast<std::ptrdiff_t>(g + size));
        std::sort(in.rbegin(), in.rend());
        of_group.push_back(shape.group_value == GroupValue::best ? in[0] : in[0] + in[1]);
      }
      const Indices kept = largest(of_group, std::vector<bool>(of_group.size(), true), shape.kept_groups);
      for (size_t e = 0; e < E; ++e) allowed[e] = std::count(kept.begin(), kept.end(), static_cast<int64_t>(e / size)) > 0;
    }
    out.chosen = largest(value, allowed, shape.per_token);
    if (shape.scores == RouterScores::chosen_softmax) {
      std::vector<bool> taken(E);
      for (int64_t e : out.chosen) taken[static_cast<size_t>(e)] = true;
      p = softmax(s, taken);
    }
    for (int64_t e : out.chosen) out.weights.push_back(p[static_cast<size_t>(e)]);
    if (shape.normalise) {
      const double sum = std::accumulate(out.weights.begin(), out.weights.end(), 0.0), floor = static_cast<double>(shape.normaliser_floor);
      for (double& w : out.weights) w /= shape.floor_is == NormaliserFloor::added ? sum + floor : std::max(sum, floor);
    }
  }
  for (size_t k = 0; k < out.weights.size(); ++k)
    out.weights[k] *= static_cast<double>(shape.scale) *
                      (expert_scale.empty() ? 1.0 : static_cast<double>(expert_scale[static_cast<size_t>(out.chosen[k])]));
  return out;
}

struct Case {
  const char* name;
  RouterShape shape;
  bool corrected = false, scaled = false;
  float spread = 1;
};

RouterShape shape(RouterScores scores, int64_t E, int64_t K, bool normalise = false, float scale = 1) {
  RouterShape s;
  s.scores = scores, s.experts = E, s.per_token = K, s.normalise = normalise, s.scale = scale;
  return s;
}
RouterShape grouped(RouterShape s, int64_t groups, int64_t kept, GroupValue value) {
  s.groups = groups, s.kept_groups = kept, s.group_value = value;
  return s;
}
RouterShape floored(RouterShape s, NormaliserFloor kind, float floor) {
  s.floor_is = kind, s.normaliser_floor = floor;
  return s;
}
RouterShape mixer(int64_t E, float jitter) {
  RouterShape s = shape(RouterScores::sparse_mixer, E, 2);
  s.jitter = jitter;
  return s;
}

std::vector<Case> cases() {
  using enum RouterScores;
  return {
      {"softmax, divided by the sum", shape(softmax, 60, 8, true)},
      {"softmax as it is", shape(softmax, 33, 4)},
      {"all experts", shape(softmax, 4, 4, true, 3)},
      {"softmax of the chosen", shape(chosen_softmax, 32, 4)},
      {"sigmoid in groups with a correction",
       floored(grouped(shape(sigmoid, 64, 6, true, 2.5f), 8, 3, GroupValue::sum_of_two_best), NormaliserFloor::added, 1e-20f), true},
      {"sigmoid in groups, none", grouped(shape(sigmoid, 16, 4, true), 4, 2, GroupValue::sum_of_two_best)},
      {"sigmoid with a correction", floored(shape(sigmoid, 24, 4, true), NormaliserFloor::added, 0.5f), true},
      {"softmax in groups", grouped(shape(softmax, 40, 5, false, 16), 5, 2, GroupValue::best)},
      {"softmax in groups, divided", grouped(shape(softmax, 40, 5, true, 1.5f), 8, 2, GroupValue::best)},
      {"softmax with a correction and a least sum", floored(shape(softmax, 48, 4, true), NormaliserFloor::least, 0.3f), true},
      {"sigmoid of the best", shape(sigmoid, 16, 1)},
      {"sparse mixer", mixer(16, 0.3f)},
      {"sparse mixer, everything near", mixer(8, 10)},
      {"softmax with the experts' scales", shape(softmax, 128, 8, true), false, true},
      {"far apart", shape(softmax, 60, 8, true), false, false, 30},
  };
}

class Router : public ::testing::TestWithParam<int> {};

TEST_P(Router, EqualsItsFormula) {
  const Case c = cases()[static_cast<size_t>(GetParam())];
  SCOPED_TRACE(c.name);
  const int64_t T = 11, E = c.shape.experts, K = c.shape.per_token;
  std::vector<float> logits = random_floats(T * E, 1, c.spread), d_weights = random_floats(T * K, 2), correction, expert_scale;
  if (c.corrected) correction = random_floats(E, 3, 0.3f);
  if (c.scaled) expert_scale = random_floats(E, 4);
  const RouterVectors vectors = {c.corrected ? correction.data() : nullptr, c.scaled ? expert_scale.data() : nullptr};
  std::vector<double> in = doubles(logits);
  auto weights_of = [&] {
    std::vector<double> out;
    for (int64_t t = 0; t < T; ++t) {
      const Routed row = reference_row({in.begin() + t * E, in.begin() + (t + 1) * E}, c.shape, correction, expert_scale);
      out.insert(out.end(), row.weights.begin(), row.weights.end());
    }
    return out;
  };
  Context ctx;
  const int threads = omp_get_max_threads();
  std::vector<float> first_weights, first_d;
  for (int n : {1, 2, 3}) {
    omp_set_num_threads(n);
    std::vector<int32_t> chosen(static_cast<size_t>(T * K));
    std::vector<float> weights(chosen.size()), d_logits(logits.size(), 7);
    const Tensor ids(chosen.data(), Dtype::I32, {T, K});
    route(ctx, ids, matrix(weights, T, K), matrix(logits, T, E), c.shape, vectors);
    route_backward(ctx, matrix(d_logits, T, E), matrix(d_weights, T, K), ids, matrix(logits, T, E), c.shape, vectors);
    if (n == 1) {
      first_weights = weights, first_d = d_logits;
      for (int64_t t = 0; t < T; ++t) {
        const Routed row = reference_row({in.begin() + t * E, in.begin() + (t + 1) * E}, c.shape, correction, expert_scale);
        EXPECT_TRUE(std::equal(row.chosen.begin(), row.chosen.end(), chosen.begin() + t * K)) << "row " << t;
      }
      expect_near(weights, weights_of(), 2e-6, "weights");
      expect_near(d_logits, central_differences(in, [&] { return inner(weights_of(), d_weights); }), 5e-6, "d_logits");
    }
    EXPECT_EQ(weights, first_weights);
    EXPECT_EQ(d_logits, first_d);
    if (!c.scaled) continue;
    std::vector<float> d_scale(static_cast<size_t>(E), 0.5f);
    expert_scale_gradient(ctx, Tensor(d_scale.data(), Dtype::F32, {E}), matrix(d_weights, T, K), ids, matrix(logits, T, E), c.shape,
                          vectors);
    std::vector<double> scales = doubles(expert_scale);
    const auto loss = [&] {
      expert_scale.assign(scales.begin(), scales.end());
      return inner(weights_of(), d_weights);
    };
    std::vector<double> want = central_differences(scales, loss, 0.25);  // it is linear in them
    for (double& d : want) d += 0.5;
    expert_scale.assign(scales.begin(), scales.end());
    expect_near(d_scale, want, 2e-5, "d_expert_scale");
  }
  omp_set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Router, ::testing::Range(0, static_cast<int>(cases().size())));

std::vector<int32_t> choices(const std::vector<float>& logits, const RouterShape& shape, const float* correction = nullptr) {
  Context ctx;
  std::vector<float> in = logits, weights(static_cast<size_t>(shape.per_token));
  std::vector<int32_t> chosen(weights.size());
  route(ctx, Tensor(chosen.data(), Dtype::I32, {1, shape.per_token}), matrix(weights, 1, shape.per_token), matrix(in, 1, std::ssize(in)),
        shape, {correction, nullptr});
  return chosen;
}

TEST(RouterChoice, OfEqualsTheLowerIndexComesFirst) {
  using enum RouterScores;
  const std::vector<float> logits = {1, 2, 2, 0, 2, 1};
  for (RouterScores scores : {softmax, sigmoid, chosen_softmax})
    EXPECT_EQ(choices(logits, shape(scores, 6, 4)), (std::vector<int32_t>{1, 2, 4, 0}));
  EXPECT_EQ(choices(logits, mixer(6, 0.01f)), (std::vector<int32_t>{1, 2}));
  const std::vector<float> nothing(6, 0.0f);
  EXPECT_EQ(choices({2, 2, 2, 2, 2, 2}, grouped(shape(sigmoid, 6, 2), 3, 2, GroupValue::sum_of_two_best), nothing.data()),
            (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(choices({20, 30, 40, 50}, shape(sigmoid, 4, 2)), (std::vector<int32_t>{3, 2}));  // equal once saturated
}

TEST(RouterChoice, OfNumbersThatAreNoneIsStillOfDifferentExperts) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(choices({none, none, none}, shape(RouterScores::softmax, 3, 2)), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(choices({none, none, 1, none, 3}, shape(RouterScores::chosen_softmax, 5, 3)), (std::vector<int32_t>{4, 2, 0}));
}

TEST(RouterChoice, WrongShapesAreNamed) {
  const std::vector<float> logits(6), some(6);
  auto broken = [&](RouterShape s, const float* correction = nullptr) { EXPECT_THROW(choices(logits, s, correction), Error); };
  broken(shape(RouterScores::softmax, 6, 7));
  broken(shape(RouterScores::softmax, 5, 2));
  broken(grouped(shape(RouterScores::softmax, 6, 2), 4, 2, GroupValue::best));
  broken(grouped(shape(RouterScores::softmax, 6, 3), 3, 1, GroupValue::best));
  broken(grouped(shape(RouterScores::chosen_softmax, 6, 2), 3, 2, GroupValue::best));
  broken(shape(RouterScores::chosen_softmax, 6, 2), some.data());
}

}  // namespace
}  // namespace loraine::router_test
