// Checks of the cross entropy and the choice of device.
#include "loraine/kernels/cross_entropy.h"

#include "loraine/kernels/dispatch.h"

namespace loraine {

void cross_entropy_cpu(const Tensor& logits, std::span<const int32_t> labels, std::span<double> losses, std::span<uint8_t> correct,
                       float grad_scale);

void cross_entropy(Context& ctx, const Tensor& logits, std::span<const int32_t> labels, std::span<double> losses,
                   std::span<uint8_t> correct, float grad_scale) {
  int64_t n = logits.rows(), V = logits.cols();
  check_f32("cross_entropy", "logits", logits, static_cast<int64_t>(labels.size()), V);
  check_op(static_cast<int64_t>(losses.size()) == n, "cross_entropy", "losses must have one element per row");
  check_op(correct.empty() || static_cast<int64_t>(correct.size()) == n, "cross_entropy",
           "correct must be empty or have one element per row");
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= V) {
      throw Error(ErrorKind::bad_data, fmt::format("cross_entropy: label {} at row {} is outside the vocabulary of {}", labels[i], i, V),
                  "Check that the tokenizer belongs to this model.");
    }
  }
  dispatch(ctx, "cross_entropy", [&] { cross_entropy_cpu(logits, labels, losses, correct, grad_scale); });
}

}  // namespace loraine
