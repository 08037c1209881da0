// A mean and a median over a few updates: the losses of single ones differ by what their examples are.
#include "loraine/train/loss_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace loraine {
namespace {

constexpr double kRise = 1.3, kRoom = 0.1;   // times the first loss, and beyond it
constexpr double kUneven = 1.5;              // an update's loss may be that far from the others'; beyond it the second one diverged
constexpr double kNear = 0.95, kFar = 0.85;  // of ln V

}  // namespace

LossWatch::LossWatch(int64_t updates, int64_t vocab_size, std::optional<double> began)
    : first_(static_cast<size_t>(std::clamp<int64_t>(updates / 20, 3, 10))),
      window_(static_cast<size_t>(std::clamp<int64_t>(updates / 10, 3, kMostWindow))),
      ln_vocab_(vocab_size > 0 ? std::log(static_cast<double>(vocab_size)) : std::numeric_limits<double>::infinity()),
      began_(began) {}

std::string LossWatch::observe(int64_t step, double loss, double learning_rate) {
  if (!began_) {
    if (seen_ == 0) first_loss_ = loss;
    first_sum_ += loss;
    if (++seen_ < first_) return "";
    began_ = std::min(first_sum_ / static_cast<double>(seen_), kUneven * first_loss_);
    if (*began_ < kNear * ln_vocab_) return "";
    return fmt::format(
        "note: the loss begins at {:.4f}, and ln V = {:.4f} is that of a model that knows nothing: check that the base is trained, and "
        "that tokenizer and template are its own",
        *began_, ln_vocab_);
  }
  recent_[after_++ % window_] = loss;
  if (said_ || after_ < window_) return "";
  std::array<double, kMostWindow> sorted = recent_;  // the median: single examples may be far from the others
  std::sort(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(window_));
  const double now = sorted[window_ / 2];
  const bool nothing = now > kNear * ln_vocab_ && *began_ < kFar * ln_vocab_;
  if (now < kRise * *began_ + kRoom && !nothing) return "";
  said_ = true;
  return fmt::format(
      "warning: step {}: the loss has risen from {:.4f} at the start to {:.4f}{}: the run diverges; lower learning_rate (now {:.2e}), or "
      "lengthen the warm-up (warmup_ratio: 0.1)",
      step, *began_, now, nothing ? fmt::format(" (ln V = {:.4f} is that of a model that knows nothing)", ln_vocab_) : "", learning_rate);
}

}  // namespace loraine
