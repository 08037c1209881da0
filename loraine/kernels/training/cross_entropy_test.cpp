// Cross entropy against double, with logits far apart, and its in-place gradient.
#include "loraine/kernels/training/cross_entropy.h"

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine {
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
  cross_entropy(ctx, all, {}, labels, losses, {}, 0, 0.1f);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(losses[i], want[i], 1e-6 * want[i]);
  cross_entropy(ctx, all, all, labels, losses, {}, 0.5f, 0.1f);
  expect_near(logits, gradient, 5e-6, "gradient");
}

TEST(CrossEntropy, LabelSmoothing) {
  check_smoothing({5, 36, 11}, 37);
  check_smoothing({1029}, 1030);
}

}  // namespace
}  // namespace loraine
