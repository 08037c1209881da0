// Stage decision: questions with few answers, decided by the log-probabilities of their labels where the answer would begin. Called through
// objective.h.
#pragma once
#include "loraine/data/decisions/label_tree.h"
#include "loraine/train/objectives/objective.h"
#include "loraine/train/records/calibration.h"

namespace loraine {

// What decisions are scored with: the model, the set that all rows run with (or nothing), and hidden states [T, C] of the batch of all
// samples of the items.
struct DecisionPass {
  Context& ctx;
  const Model& model;
  const AdapterSet* set;
  std::span<const Item> items;
  const Batch& batch;
  Tensor hidden;
  Arena& scratch;  // decision_scratch_bytes of it are free
  bool training = false;
};
size_t decision_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set);
// A tree per item, with all its places told.
std::vector<LabelTree> told_trees(const DecisionPass& pass);
// d_hidden [T, C] = the gradient of Σ d[item][label] · logprobs, given the trees; that of the head, where it is trained, is added up.
void trees_backward(const DecisionPass& pass, std::span<const LabelTree> trees, std::span<const std::vector<double>> d,
                    const Tensor& d_hidden);

class DecisionObjective : public Objective {
 public:
  explicit DecisionObjective(const TrainConfig& config);
  size_t scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) const override {
    return decision_scratch_bytes(model, rows, set);
  }
  void samples(const Item& item, std::vector<const Example*>& to) const override {
    for (const Example& sample : item.decision->samples) to.push_back(&sample);
  }
  void begin_update(std::span<const Item> items, int64_t /*micro_batches*/) override { items_ = static_cast<double>(items.size()); }
  double loss(const ObjectivePass& pass) override;
  std::vector<std::string> plotted() const override { return {"accuracy", "eval_brier"}; }

  // Evaluations: what they have seen is what the temperature is fitted on.
  void begin_evaluations() override;
  void evaluated(OrderedJson& figures) override;
  bool calibrates() const override { return true; }
  void calibrate() override { calibration_ = loraine::calibrate(seen_, fitted_on_); }
  void write_files(const std::string& folder) const override { write_calibration(folder, calibration_); }
  void read_files(const std::string& folder) override;

 private:
  double brier_;
  std::string fitted_on_;
  double items_ = 1;                  // of the update
  std::vector<ScoredDecision> seen_;  // since begin_evaluations
  size_t of_earlier_sets_ = 0;        // those of them that belong to sets that are through
  Calibration calibration_;
};

}  // namespace loraine
