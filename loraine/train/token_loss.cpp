// From keys to a TokenLoss.
#include "loraine/train/token_loss.h"

namespace loraine {

TokenLoss token_loss(const TrainConfig& c) {
  TokenLoss loss;
  loss.smoothing = static_cast<float>(c.label_smoothing_factor);
  if (c.use_dft_loss || c.use_asft_loss) loss.weight = TokenWeight::probability;
  if (c.use_asft_loss) loss.divergence = static_cast<float>(c.asft_alpha);
  if (c.use_eaft_loss) {
    loss.weight = TokenWeight::entropy;
    loss.entropy_power = static_cast<float>(c.eaft_alpha);
  }
  return loss;
}

bool batch_means(const TokenLoss& loss) { return loss.smoothing > 0 || loss.divergence != 0; }

}  // namespace loraine
