// Stage dpo: pairs of answers, one of which is preferred; DPO, hinge, IPO, ORPO, SimPO (pair_losses.h). Called through objective.h.
#pragma once
#include "loraine/train/objectives/objective.h"
#include "loraine/train/objectives/pair_losses.h"

namespace loraine {

class PairObjective : public Objective {
 public:
  explicit PairObjective(const TrainConfig& config) : config_(config), kind_(pair_loss(config.pref_loss)) {}
  bool keeps_dropout() const override { return false; }
  bool needs_side() const override { return kind_.reference; }
  size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) const override {
    return loss_scratch_bytes(model, rows, set);
  }
  void samples(const Item& item, std::vector<const Example*>& to) const override { to.insert(to.end(), {item.example, item.other}); }
  void begin_update(std::span<const Item> /*items*/, int64_t micro_batches) override {
    micro_batches_ = static_cast<double>(micro_batches);
  }
  double loss(const ObjectivePass& pass) override;
  std::vector<std::string> plotted() const override { return {"rewards/accuracies"}; }
  std::string state() const override;
  void read_state(const std::string& state) override;

 private:
  PairLoss whole_loss(const PairLogps& logps, double to_mean) const;

  const TrainConfig& config_;
  const PairLossKind& kind_;
  double micro_batches_ = 1;
  double mean_reward_ = 0;  // BCO's: over the micro-batches so far
  int64_t rewards_seen_ = 0;
};

}  // namespace loraine
