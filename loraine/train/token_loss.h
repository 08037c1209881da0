// Which loss of a token the settings ask for, and over what its mean is taken. Called by the step loop and by evaluation.
#pragma once
#include "loraine/kernels/training/cross_entropy.h"
#include "loraine/train/config/config.h"

namespace loraine {

// use_dft_loss, use_eaft_loss, use_asft_loss or label_smoothing_factor, of which check_train_config lets one through.
TokenLoss token_loss(const TrainConfig& config);

// LLaMA-Factory takes the mean of a smoothed loss (by transformers' LabelSmoother) and of ASFT's over the labels of each micro-batch, and
// adds the means; of the others over the labels of all micro-batches of an update.
bool batch_means(const TokenLoss& loss);

}  // namespace loraine
