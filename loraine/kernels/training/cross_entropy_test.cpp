// Cross entropy against double, with logits far apart, and its in-place gradient.
#include "loraine/kernels/training/cross_entropy.h"

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::cross_entropy_test {
namespace {

TEST(CrossEntropy, LossGradientAndCorrect) {
  for (int64_t V : {1, 7, 1025, 5003}) {
    const int64_t n = 4;
    std::vector<float> logits = random_floats(n * V, 1, 5);
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < n; ++i) labels.push_back(static_cast<int32_t>(i * 131 % V));
    logits[0] = 300;                                      // row 0: its label, far ahead
    if (V > 2) logits[static_cast<size_t>(V + 2)] = 300;  // row 1: another token, far ahead
    std::vector<double> want_loss, want_gradient;
    std::vector<uint8_t> want_correct;
    for (int64_t i = 0; i < n; ++i) {
      const float* x = logits.data() + i * V;
      double top = *std::max_element(x, x + V), sum = 0;
      for (int64_t v = 0; v < V; ++v) sum += std::exp(x[v] - top);
      want_loss.push_back(std::log(sum) + top - x[labels[static_cast<size_t>(i)]]);
      want_correct.push_back(std::max_element(x, x + V) - x == labels[static_cast<size_t>(i)]);
      for (int64_t v = 0; v < V; ++v) want_gradient.push_back(0.25 * (std::exp(x[v] - top) / sum - (v == labels[static_cast<size_t>(i)])));
    }
    Context ctx;
    std::vector<double> losses(n);
    std::vector<uint8_t> correct(n);
    std::vector<float> kept = logits;
    cross_entropy(ctx, matrix(logits, n, V), {}, labels, losses, correct, 0);
    EXPECT_EQ(logits, kept);
    for (size_t i = 0; i < n; ++i) EXPECT_NEAR(losses[i], want_loss[i], 1e-6 * (1 + want_loss[i]));
    EXPECT_EQ(correct, want_correct);
    EXPECT_EQ(correct[0], 1);
    const Tensor all = matrix(logits, n, V), narrow = gradient_view(all, Dtype::BF16);
    cross_entropy(ctx, all, narrow, labels, losses, {}, 0.25f);
    std::vector<bf16> rounded;
    for (int64_t i = 0; i < n; ++i) {
      const bf16* row = static_cast<const bf16*>(narrow.row_range(i, 1).data);
      rounded.insert(rounded.end(), row, row + V);
    }
    logits = kept;
    cross_entropy(ctx, all, all, labels, losses, {}, 0.25f);
    EXPECT_EQ(rounded, to_bf16(logits));
    if (V > 1) expect_near(logits, want_gradient, 5e-6, "gradient");
    labels[2] = static_cast<int32_t>(V);
    EXPECT_THROW(cross_entropy(ctx, matrix(logits, n, V), {}, labels, losses, {}, 0), Error);
  }
}

void check_smoothing(const std::vector<int32_t>& labels, int64_t V) {
  const int64_t n = static_cast<int64_t>(labels.size());
  const double epsilon = 0.1f;
  std::vector<float> logits = random_floats(n * V, 1, 2);
  std::vector<double> x = doubles(logits);
  const auto loss = [&](int64_t i) {  // transformers' LabelSmoother: (1 − ε) nll + ε mean over the vocabulary
    double sum = 0, mean = 0;
    for (int64_t v = 0; v < V; ++v) sum += std::exp(x[static_cast<size_t>(i * V + v)]), mean += x[static_cast<size_t>(i * V + v)];
    const double log_sum = std::log(sum);
    return (1 - epsilon) * (log_sum - x[static_cast<size_t>(i * V + labels[static_cast<size_t>(i)])]) +
           epsilon * (log_sum - mean / static_cast<double>(V));
  };
  std::vector<double> want, losses(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) want.push_back(loss(i));
  std::vector<double> gradient = central_differences(x, [&] {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += 0.5 * loss(i);
    return sum;
  });
  Context ctx;
  const Tensor all = matrix(logits, n, V);
  cross_entropy(ctx, all, {}, labels, losses, {}, 0, {.smoothing = 0.1f});
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(losses[i], want[i], 1e-6 * want[i]);
  cross_entropy(ctx, all, all, labels, losses, {}, 0.5f, {.smoothing = 0.1f});
  expect_near(logits, gradient, 5e-6, "gradient");
}

TEST(CrossEntropy, LabelSmoothing) {
  check_smoothing({5, 36, 11}, 37);
  check_smoothing({1029}, 1030);
}

double log_sum_exp(std::span<const double> x) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double v : x) sum += std::exp(v - top);
  return std::log(sum) + top;
}

// Loss and gradient of a token loss with a weight (a constant for the gradient) and a divergence, against double.
void check_token_loss(const TokenLoss& loss, const std::vector<int32_t>& labels, int64_t V) {
  const size_t n = labels.size(), width = static_cast<size_t>(V);
  std::vector<float> logits = random_floats(static_cast<int64_t>(n) * V, 1, 3), other = random_floats(static_cast<int64_t>(n) * V, 2, 3);
  std::vector<double> x = doubles(logits), weights;
  const std::vector<double> r = doubles(other);
  const auto row = [&](const std::vector<double>& all, size_t i) { return std::span(all).subspan(i * width, width); };
  const auto surprise = [&](size_t i) { return log_sum_exp(row(x, i)) - row(x, i)[static_cast<size_t>(labels[i])]; };
  for (size_t i = 0; i < n; ++i) {
    std::vector<double> top(row(x, i).begin(), row(x, i).end());
    std::sort(top.begin(), top.end(), std::greater<>());
    top.resize(std::min<size_t>(top.size(), 20));
    double entropy = 0;
    for (const double v : top) entropy -= std::exp(v - log_sum_exp(top)) * (v - log_sum_exp(top));
    weights.push_back(loss.weight == TokenWeight::one           ? 1
                      : loss.weight == TokenWeight::probability ? std::exp(-surprise(i))
                                                                : std::pow(entropy / 3, loss.entropy_power));
  }
  const auto value = [&](size_t i) {
    double divergence = 0;
    const double sum_q = log_sum_exp(row(r, i)), sum_p = log_sum_exp(row(x, i));
    for (size_t v = 0; v < width; ++v) {
      const double log_q = row(r, i)[v] - sum_q, log_p = row(x, i)[v] - sum_p;
      divergence += std::exp(log_q) * (log_q - log_p);
    }
    return weights[i] * surprise(i) + loss.divergence * divergence;
  };
  std::vector<double> want, losses(n);
  for (size_t i = 0; i < n; ++i) want.push_back(value(i));
  const std::vector<double> gradient = central_differences(x, [&] {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += 0.5 * value(i);
    return sum;
  });
  Context ctx;
  const Tensor all = matrix(logits, static_cast<int64_t>(n), V);
  const std::vector<float> kept = other;
  cross_entropy(ctx, all, {}, labels, losses, {}, 0, loss, matrix(other, static_cast<int64_t>(n), V));
  for (size_t i = 0; i < n; ++i) EXPECT_NEAR(losses[i], want[i], 2e-6 * (1 + want[i]));
  other = kept;
  cross_entropy(ctx, all, all, labels, losses, {}, 0.5f, loss, matrix(other, static_cast<int64_t>(n), V));
  for (size_t i = 0; i < n; ++i) EXPECT_NEAR(losses[i], want[i], 2e-6 * (1 + want[i]));
  expect_near(logits, gradient, 5e-6, "gradient");
}

TEST(CrossEntropy, WeightedTokensAndDivergence) {
  for (const int64_t V : {7, 37, 150}) {
    const std::vector<int32_t> labels = {5, 1, static_cast<int32_t>(V - 1)};
    check_token_loss({.weight = TokenWeight::probability}, labels, V);
    check_token_loss({.weight = TokenWeight::entropy}, labels, V);
    check_token_loss({.weight = TokenWeight::entropy, .entropy_power = 0.5f}, labels, V);
    check_token_loss({.weight = TokenWeight::probability, .divergence = 0.1f}, labels, V);
    check_token_loss({.divergence = 2}, labels, V);
  }
}

}  // namespace
}  // namespace loraine::cross_entropy_test
