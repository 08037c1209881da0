// How far the probabilities of decisions are what they say: the temperature that makes them so, its file, and figures of them. Used by the
// objective of stage decision, by evaluation and by serving.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace loraine {

struct ScoredDecision {
  std::vector<double> logprobs;  // of the choices
  int32_t label = 0;             // the right one's place
};

// Decisions whose likeliest choice has a probability in (i / n, (i + 1) / n].
struct ReliabilityBin {
  int64_t count = 0;
  double confidence = 0, accuracy = 0;  // means
};
inline constexpr size_t kReliabilityBins = 15;
std::vector<ReliabilityBin> reliability_bins(std::span<const ScoredDecision> decisions, double temperature, size_t bins = kReliabilityBins);
// Σ count · |confidence − accuracy| / Σ count (Guo et al. 2017).
double calibration_error(std::span<const ReliabilityBin> bins);
double calibration_error(std::span<const ScoredDecision> decisions, double temperature);
// The mean of −log p of what is right.
double mean_nll(std::span<const ScoredDecision> decisions, double temperature);

// The temperature T of softmax(log p / T) with the least −log p over the decisions, log T being normally distributed around 0 beforehand:
// where few decisions are all right it stays near 1. Between 0.05 and 20.
double fit_temperature(std::span<const ScoredDecision> decisions);

// decision.json beside the adapter or the model (docs/methods/decision.md).
inline constexpr const char* kCalibrationFile = "decision.json";
struct Calibration {
  double temperature = 1;
  std::string fitted_on = "nothing";                            // validation, held out of training, nothing
  int64_t rows = 0;                                             // by which it was fitted
  double nll = 0, nll_before = 0, error = 0, error_before = 0;  // over those, with it and with 1
};
Calibration calibrate(std::span<const ScoredDecision> decisions, const std::string& fitted_on);
void write_calibration(const std::string& folder, const Calibration& calibration);
// None where there is no such file; bad_data where it is damaged.
std::optional<Calibration> read_calibration(const std::string& folder);

}  // namespace loraine
