// The reliability diagram of decisions: how often what is said with some probability is right. Called by evaluation.
#pragma once
#include <span>
#include <string>

#include "loraine/train/records/calibration.h"

namespace loraine {

struct ReliabilityPlot {
  std::string title;
  std::span<const ReliabilityBin> calibrated, before;  // over the temperature, and without one; of one kind of bins
  double temperature = 1;
};
// The bytes of a PNG: bars of the accuracy of each bin with what it lacks of its confidence, a line of what they were before, and below how
// many decisions each bin has.
std::string reliability_png(const ReliabilityPlot& plot);

}  // namespace loraine
