// The temperature against a scan of all, errors of calibration against sums by hand, and the file.
#include "loraine/train/records/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/objectives/decision_loss.h"
#include "loraine/train/records/reliability_plot.h"

namespace loraine::calibration_test {
namespace {

// Decisions whose labels are drawn with softmax(logprobs / true_temperature).
std::vector<ScoredDecision> drawn(double true_temperature, size_t n) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::vector<ScoredDecision> all;
  for (size_t i = 0; i < n; ++i) {
    ScoredDecision& one = all.emplace_back();
    double sum = 0;
    std::vector<double> weights;
    for (int k = 0; k < 4; ++k) {
      one.logprobs.push_back(3 * normal(random));
      sum += weights.emplace_back(std::exp(one.logprobs.back() / true_temperature));
    }
    double left = uniform(random) * sum;
    while (one.label < 3 && left > weights[static_cast<size_t>(one.label)]) left -= weights[static_cast<size_t>(one.label++)];
  }
  return all;
}

TEST(Calibration, FindsTheTemperatureThatWasDrawnWith) {
  for (const double t : {0.5, 1.0, 3.0}) {
    const std::vector<ScoredDecision> decisions = drawn(t, 4000);
    const double fitted = fit_temperature(decisions);
    EXPECT_NEAR(fitted, t, 0.08 * t);
    for (const double other : {fitted * 0.97, fitted * 1.03}) EXPECT_LT(mean_nll(decisions, fitted), mean_nll(decisions, other));
    EXPECT_LT(calibration_error(decisions, fitted), 0.02);
  }
}

TEST(Calibration, FewThatAreAllRightStayModest) {
  std::vector<ScoredDecision> few(5, ScoredDecision{{-0.5, -2}, 0});
  EXPECT_GT(fit_temperature(few), 0.25);
  EXPECT_EQ(fit_temperature({}), 1);
}

TEST(Calibration, ErrorByHand) {
  const auto decision = [](double p, int32_t label) { return ScoredDecision{{std::log(p), std::log(1 - p)}, label}; };
  const std::vector<ScoredDecision> decisions = {decision(0.9, 0), decision(0.9, 1), decision(0.7, 0)};
  EXPECT_NEAR(calibration_error(reliability_bins(decisions, 1, 10)), (2 * (0.9 - 0.5) + (1 - 0.7)) / 3, 1e-12);
  EXPECT_NEAR(mean_nll(decisions, 1), -(std::log(0.9) + std::log(0.1) + std::log(0.7)) / 3, 1e-12);
  const std::vector<ReliabilityBin> bins = reliability_bins(decisions, 1, 10);
  EXPECT_EQ(bins[8].count, 2);  // (0.8, 0.9]
  EXPECT_EQ(bins[6].count, 1);
  EXPECT_EQ(calibration_error(std::vector<ScoredDecision>(), 1), 0);
}

TEST(Calibration, FileAndBack) {
  const std::string folder = (std::filesystem::temp_directory_path() / "loraine_calibration_test").string();
  std::filesystem::remove_all(folder);
  make_folders(folder);
  EXPECT_FALSE(read_calibration(folder));
  const Calibration made = calibrate(drawn(2, 50), "validation");
  write_calibration(folder, made);
  const std::optional<Calibration> read = read_calibration(folder);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->temperature, made.temperature);  // to the bit
  EXPECT_EQ(read->rows, 50);
  EXPECT_EQ(read->fitted_on, "validation");
  EXPECT_EQ(read->error, made.error);
  for (const char* bad : {"{", "[]", "{}", R"({"temperature": "1"})", R"({"temperature": 0})", R"({"temperature": 1e9})"}) {
    write_file(folder + "/" + kCalibrationFile, bad);
    EXPECT_THROW(read_calibration(folder), Error) << bad;
  }
  std::filesystem::remove_all(folder);
}

TEST(DecisionLoss, ByHandAndItsDerivative) {
  const std::vector<double> logprobs = {std::log(0.2), std::log(0.1), std::log(0.05)};
  const DecisionLoss made = decision_loss(logprobs, 1, 0.5);
  const std::vector<double> p = {0.2 / 0.35, 0.1 / 0.35, 0.05 / 0.35};
  EXPECT_NEAR(made.nll, -std::log(p[1]), 1e-12);
  EXPECT_NEAR(made.brier, p[0] * p[0] + (p[1] - 1) * (p[1] - 1) + p[2] * p[2], 1e-12);
  EXPECT_NEAR(made.loss, made.nll + 0.5 * made.brier, 1e-12);
  double sum = 0;
  for (size_t i = 0; i < logprobs.size(); ++i) {
    std::vector<double> up = logprobs, down = logprobs;
    up[i] += 1e-5, down[i] -= 1e-5;
    EXPECT_NEAR(made.d[i], (decision_loss(up, 1, 0.5).loss - decision_loss(down, 1, 0.5).loss) / 2e-5, 1e-8);
    sum += made.d[i];
  }
  EXPECT_NEAR(sum, 0, 1e-15);
}

TEST(ReliabilityPlot, IsAPng) {
  const std::vector<ScoredDecision> decisions = drawn(2, 300);
  const std::vector<ReliabilityBin> bins = reliability_bins(decisions, 2), before = reliability_bins(decisions, 1);
  const std::string png = reliability_png({"300 decisions", bins, before, 2});
  EXPECT_TRUE(png.starts_with("\x89PNG"));
  EXPECT_GT(png.size(), 5000u);
  EXPECT_TRUE(reliability_png({"none", {}, {}, 1}).starts_with("\x89PNG"));
}

}  // namespace
}  // namespace loraine::calibration_test
