// See calibration.h.
#include "loraine/train/records/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/decisions/label_tree.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"

namespace loraine {

std::vector<ReliabilityBin> reliability_bins(std::span<const ScoredDecision> decisions, double temperature, size_t bins) {
  std::vector<ReliabilityBin> all(bins);
  for (const ScoredDecision& one : decisions) {
    const std::vector<double> shares = shares_of(one.logprobs, temperature);
    const auto likeliest = std::ranges::max_element(shares);
    const double place = std::ceil(*likeliest * static_cast<double>(bins)) - 1;
    ReliabilityBin& bin = all[static_cast<size_t>(std::clamp(place, 0.0, static_cast<double>(bins - 1)))];
    ++bin.count;
    bin.confidence += *likeliest;
    bin.accuracy += likeliest - shares.begin() == one.label ? 1 : 0;
  }
  for (ReliabilityBin& bin : all)
    if (bin.count > 0) {
      bin.confidence /= static_cast<double>(bin.count);
      bin.accuracy /= static_cast<double>(bin.count);
    }
  return all;
}

double calibration_error(std::span<const ReliabilityBin> bins) {
  double sum = 0, count = 0;
  for (const ReliabilityBin& bin : bins) {
    sum += static_cast<double>(bin.count) * std::abs(bin.confidence - bin.accuracy);
    count += static_cast<double>(bin.count);
  }
  return count > 0 ? sum / count : 0;
}

double calibration_error(std::span<const ScoredDecision> decisions, double temperature) {
  return calibration_error(reliability_bins(decisions, temperature));
}

double mean_nll(std::span<const ScoredDecision> decisions, double temperature) {
  double sum = 0;
  for (const ScoredDecision& one : decisions) {
    const double top = *std::ranges::max_element(one.logprobs);
    double all = 0;
    for (const double logprob : one.logprobs) all += std::exp((logprob - top) / temperature);
    sum += std::log(all) - (one.logprobs[static_cast<size_t>(one.label)] - top) / temperature;
  }
  return decisions.empty() ? 0 : sum / static_cast<double>(decisions.size());
}

double fit_temperature(std::span<const ScoredDecision> decisions) {
  if (decisions.empty()) return 1;
  const auto worth = [&](double log_t) {
    return mean_nll(decisions, std::exp(log_t)) * static_cast<double>(decisions.size()) + log_t * log_t / 2;
  };
  // The best of a grid, then a golden section between its neighbours.
  constexpr double kLowest = -3, kStep = 0.1;
  constexpr int kSteps = 60;
  int best = 0;
  double least = INFINITY;
  for (int i = 0; i <= kSteps; ++i)
    if (const double one = worth(kLowest + i * kStep); one < least) least = one, best = i;
  double low = kLowest + (best - 1) * kStep, high = kLowest + (best + 1) * kStep;
  const double golden = (std::sqrt(5.0) - 1) / 2;
  double a = high - golden * (high - low), b = low + golden * (high - low), at_a = worth(a), at_b = worth(b);
  for (int i = 0; i < 40; ++i) {
    if (at_a < at_b) {
      high = b, b = a, at_b = at_a;
      a = high - golden * (high - low), at_a = worth(a);
    } else {
      low = a, a = b, at_a = at_b;
      b = low + golden * (high - low), at_b = worth(b);
    }
  }
  return std::clamp(std::exp((low + high) / 2), 0.05, 20.0);
}

Calibration calibrate(std::span<const ScoredDecision> decisions, const std::string& fitted_on) {
  Calibration made;
  if (decisions.empty()) return made;
  made.temperature = fit_temperature(decisions);
  made.fitted_on = fitted_on;
  made.rows = static_cast<int64_t>(decisions.size());
  made.nll = mean_nll(decisions, made.temperature);
  made.nll_before = mean_nll(decisions, 1);
  made.error = calibration_error(decisions, made.temperature);
  made.error_before = calibration_error(decisions, 1);
  return made;
}

void write_calibration(const std::string& folder, const Calibration& c) {
  const nlohmann::ordered_json json = {{"temperature", c.temperature},
                                       {"fitted_on", c.fitted_on},
                                       {"rows", c.rows},
                                       {"nll", c.nll},
                                       {"nll_before", c.nll_before},
                                       {"calibration_error", c.error},
                                       {"calibration_error_before", c.error_before}};
  write_file(folder + "/" + kCalibrationFile, json.dump(2) + "\n");
}

std::optional<Calibration> read_calibration(const std::string& folder) {
  const std::string path = folder + "/" + kCalibrationFile;
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) return {};
  const Json json = parse_json_file(path);
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::bad_data, path + ": " + what,
                "it is written by training with stage: decision; without it no temperature counts");
  };
  if (!json.is_object() || !json.contains("temperature") || !json["temperature"].is_number()) refuse("it has no number `temperature`");
  Calibration c;
  c.temperature = json["temperature"].get<double>();
  if (!(c.temperature >= 0.01 && c.temperature <= 100)) refuse(fmt::format("temperature is {}, expected 0.01 to 100", c.temperature));
  const auto number = [&](const char* key, double& to) {
    if (json.contains(key) && json[key].is_number()) to = json[key].get<double>();
  };
  double rows = 0;
  number("rows", rows);
  c.rows = rows >= 0 && rows < 1e15 ? static_cast<int64_t>(rows) : 0;
  number("nll", c.nll);
  number("nll_before", c.nll_before);
  number("calibration_error", c.error);
  number("calibration_error_before", c.error_before);
  if (json.contains("fitted_on") && json["fitted_on"].is_string()) c.fitted_on = json["fitted_on"].get<std::string>();
  return c;
}

}  // namespace loraine
