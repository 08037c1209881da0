// Stage grpo: answers that the policy gave itself, each by how much better than the others of its group it was found (GRPO, Shao et al.
// 2024; DAPO, Dr. GRPO, GSPO). Called through objective.h; train/rollouts makes the items.
#pragma once
#include "loraine/train/objectives/grpo_loss.h"
#include "loraine/train/objectives/objective.h"

namespace loraine {

class GrpoObjective : public Objective {
 public:
  explicit GrpoObjective(const TrainConfig& config);
  bool keeps_dropout() const override { return !config_.grpo.disable_dropout; }
  bool loss_falls() const override { return false; }
  bool needs_side() const override;
  size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) const override {
    return loss_scratch_bytes(model, rows, set);
  }
  void samples(const Item& item, std::vector<const Example*>& to) const override { to.push_back(item.example); }
  void begin_update(std::span<const Item> /*items*/, int64_t micro_batches) override {
    micro_batches_ = static_cast<double>(micro_batches);
  }
  double loss(const ObjectivePass& pass) override;
  std::vector<std::string> plotted() const override { return {"reward", "eval_reward", "completions/mean_length"}; }

 private:
  const TrainConfig& config_;
  double temperature_, steps_;  // micro-batches of a generation
  double micro_batches_ = 1;
};

// Whether the answers of a generation are trained on by other weights than those that gave them.
bool needs_old_logps(const TrainConfig& config);

}  // namespace loraine
