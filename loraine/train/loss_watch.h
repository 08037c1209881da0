// Whether the loss of a run rises past where it began: a run that diverges says so long before a number is not finite. Called after each
// update.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace loraine {

class LossWatch {
 public:
  // updates: of the whole run. vocab_size: V, of which ln V is the loss of a model that knows nothing; 0: of another loss. began: the loss
  // that a resumed run began with, where it is known.
  LossWatch(int64_t updates, int64_t vocab_size, std::optional<double> began = {});

  // A line, at most twice in a run, else empty: the loss begins near ln V; or the median of the newest updates lies well above that of the
  // first, or near ln V while those were not. What to change stands in it.
  std::string observe(int64_t step, double loss, double learning_rate);

 private:
  size_t first_, window_;
  double ln_vocab_;
  double first_loss_ = 0, first_sum_ = 0;
  size_t seen_ = 0;
  std::optional<double> began_;
  static constexpr size_t kMostWindow = 20;
  std::array<double, kMostWindow> recent_{};  // a ring of window_ losses: a step allocates nothing
  size_t after_ = 0;                          // updates since the first ones
  bool said_ = false;
};

}  // namespace loraine
