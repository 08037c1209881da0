// Checks of the cross entropy and the choice of device.
#include "loraine/kernels/training/cross_entropy.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void cross_entropy_cpu(const Tensor& logits, const Tensor& d_logits, std::span<const int32_t> labels, std::span<double> losses,
                       std::span<uint8_t> correct, float grad_scale, const TokenLoss& loss, const Tensor& reference);

void cross_entropy(Context& ctx, const Tensor& logits, const Tensor& d_logits, std::span<const int32_t> labels, std::span<double> losses,
                   std::span<uint8_t> correct, float grad_scale, const TokenLoss& loss, const Tensor& reference) {
  int64_t n = logits.rows(), V = logits.cols();
  check_f32("cross_entropy", "logits", logits, static_cast<int64_t>(labels.size()), V);
  if (grad_scale != 0) {
    check_activation("cross_entropy", "d_logits", d_logits, n, V);
    check_op(d_logits.data == logits.data && d_logits.row_stride * static_cast<int64_t>(size_of(d_logits.dtype)) ==
                                                 logits.row_stride * static_cast<int64_t>(sizeof(float)),
             "cross_entropy", "rows of d_logits must begin where those of logits do");
  }
  check_op(static_cast<int64_t>(losses.size()) == n, "cross_entropy", "losses must have one element per row");
  check_op(correct.empty() || static_cast<int64_t>(correct.size()) == n, "cross_entropy",
           "correct must be empty or have one element per row");
  check_op(loss.smoothing >= 0 && loss.smoothing <= 1, "cross_entropy", "smoothing must lie in [0, 1]");
  check_op(loss.smoothing == 0 || (loss.weight == TokenWeight::one && loss.divergence == 0), "cross_entropy",
           "smoothing goes with no weight and no divergence");
  if (loss.divergence != 0) check_f32("cross_entropy", "reference", reference, n, V);
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= V) {
      throw Error(ErrorKind::bad_data, fmt::format("cross_entropy: label {} at row {} is outside the vocabulary of {}", labels[i], i, V),
                  "Check that the tokenizer belongs to this model.");
    }
  }
  dispatch(ctx, "cross_entropy", [&] { cross_entropy_cpu(logits, d_logits, labels, losses, correct, grad_scale, loss, reference); });
}

Tensor gradient_view(const Tensor& logits, Dtype dtype) {
  Tensor d = logits;
  d.dtype = dtype;
  d.row_stride = logits.row_stride * static_cast<int64_t>(sizeof(float) / size_of(dtype));
  return d;
}

}  // namespace loraine
