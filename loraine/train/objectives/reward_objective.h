// Stage rm: a model that gives answers a score, the preferred one of a pair the higher one (Bradley and Terry). Called through objective.h.
#pragma once
#include "loraine/train/objectives/objective.h"
#include "loraine/train/objectives/value_head.h"

namespace loraine {

// Scores of the last tokens of the sequences in hidden [T, C]; one without rows scores as the head's bias does. `samples`: of the batch, in
// their order. gpu: whose last batch it was, in the place of hidden.
std::vector<double> reward_scores(Context& ctx, const ValueHead& head, const Tensor& hidden, const Batch& batch,
                                  std::span<const Example* const> samples, Arena& scratch, GpuDecoder* gpu = nullptr);
size_t reward_scratch_bytes(const Model& model, int64_t rows);

class RewardObjective : public Objective {
 public:
  void begin(const ObjectiveStart& start) override;
  std::vector<Parameter> parameters() const override { return head_->parameters(); }
  size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* /*set*/) const override {
    return reward_scratch_bytes(model, rows);
  }
  size_t scratch_bytes_beside_gpu(const Model& model, int64_t rows) const override { return reward_scratch_bytes(model, rows); }
  void samples(const Item& item, std::vector<const Example*>& to) const override { to.insert(to.end(), {item.example, item.other}); }
  void begin_update(std::span<const Item> /*items*/, int64_t micro_batches) override {
    micro_batches_ = static_cast<double>(micro_batches);
  }
  double loss(const ObjectivePass& pass) override;
  const ValueHead& head() const { return *head_; }  // once it has begun
  void write_files(const std::string& folder) const override { head_->write(folder); }
  void read_files(const std::string& folder) override { head_->read(folder); }

 private:
  std::optional<ValueHead> head_;
  float dropout_ = 0;  // of the states before the head
  double micro_batches_ = 1;
};

}  // namespace loraine
