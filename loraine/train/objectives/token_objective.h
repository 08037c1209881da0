// Supervised fine-tuning and pretraining: a loss per label, and its mean. Called through objective.h.
#pragma once
#include "loraine/train/objectives/objective.h"
#include "loraine/train/token_loss.h"

namespace loraine {

class TokenObjective : public Objective {
 public:
  explicit TokenObjective(const TrainConfig& config) : token_(token_loss(config)), accuracy_(config.compute_accuracy) {}
  bool means_over_tokens() const override { return true; }
  bool needs_side() const override { return token_.divergence != 0; }
  size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) const override {
    return loss_scratch_bytes(model, rows, set, token_.divergence != 0);
  }
  void samples(const Item& item, std::vector<const Example*>& to) const override { to.push_back(item.example); }
  void begin_update(std::span<const Item> items, int64_t micro_batches) override;
  double loss(const ObjectivePass& pass) override;

 private:
  TokenLoss token_;
  bool accuracy_;
  double labels_ = 1;  // of the update, as LLaMA-Factory counts them: before the shift
};

}  // namespace loraine
