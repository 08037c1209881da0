// Stage kto: answers that were found good or not (KTO, Ethayarajh et al. 2024). Called through objective.h.
#pragma once
#include "loraine/train/objectives/objective.h"

namespace loraine {

class KtoObjective : public Objective {
 public:
  explicit KtoObjective(const TrainConfig& config) : config_(config) {}
  bool keeps_dropout() const override { return false; }
  bool needs_side() const override { return true; }
  size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) const override {
    return loss_scratch_bytes(model, rows, set);
  }
  void samples(const Item& item, std::vector<const Example*>& to) const override { to.push_back(item.example); }
  void beside_samples(const Item& item, std::vector<const Example*>& to) const override { to.push_back(item.other); }
  // Where prompts are shared, the other answer goes through the pass that trains: it needs the same rows of the prompt.
  void behind_samples(const Item& item, std::vector<const Example*>& to) const override {
    if (share_up_to() > 0) to.push_back(item.other);
  }
  void begin_update(std::span<const Item> /*items*/, int64_t micro_batches) override {
    micro_batches_ = static_cast<double>(micro_batches);
  }
  double loss(const ObjectivePass& pass) override;
  void complete(OrderedJson& values) const override;
  std::vector<std::string> plotted() const override { return {"rewards/chosen"}; }

 private:
  const TrainConfig& config_;
  double micro_batches_ = 1;
};

}  // namespace loraine
