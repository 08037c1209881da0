// Losses of a batch that ran on the GPU, in the form that those of the CPU have. Called by objectives and evaluations.
#pragma once
#include <utility>

#include "loraine/model/gpu/gpu_answers.h"
#include "loraine/train/loss.h"

namespace loraine {

// As loss_and_head_gradient, of the decoder's last batch: with grad_scale != 0 its d_hidden gets the gradient of grad_scale · loss.
inline LossSums losses_on_gpu(GpuDecoder& decoder, const Batch& batch, const TokenLoss& token, float grad_scale, bool logit_means = false) {
  GpuLosses losses = decoder.losses(token, grad_scale, grad_scale == 0 && !token.plain(), logit_means);
  LossSums sums = sum_losses(batch, decoder.labelled(), std::move(losses.losses), std::move(losses.plain), losses.correct);
  sums.logit_means = std::move(losses.logit_means);
  return sums;
}

// −log p of the batch's labels: with the set over all its rows, or of the base alone.
inline LossSums losses_on_gpu(GpuAnswers& answers, const Batch& batch, const AdapterSet* set) {
  Batch alone = batch;
  alone.adapter_rows.clear();
  if (set) alone.adapter_rows = {{0, batch.rows(), 0}};
  answers.forward(alone, std::span(&set, set ? 1 : 0));
  return losses_on_gpu(answers.decoder(), alone, {}, 0);
}

}  // namespace loraine
