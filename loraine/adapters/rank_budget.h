// AdaLoRA's budget: which ranks of all sites live, step by step. The importance of a triplet (a row of A, its E, a column of B) is a
// product of two running means of |p · gradient|: the mean itself and that of its distance from the mean. The budget falls as a cube from
// init_r to target_r per module between tinit and total_step − tfinal; what falls out has its E set to zero. Rules as PEFT's. Called by the
// step loop.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/adalora.h"
#include "loraine/adapters/attach.h"

namespace loraine {

class RankBudget {
 public:
  // The set's AdaLora sites, trained. usage when the phases do not fit into total_step.
  RankBudget(const AdapterSet& set, const AdaloraConfig& config);

  // orth_reg_weight · mean over all A and B of ‖A Aᵀ − I‖ (‖Bᵀ B − I‖), Frobenius; its gradient is added to those of A and B.
  double add_orthogonality(Context& ctx);
  // After update `step` (from 1), whose gradients were multiplied by gradient_scale: scores, and zeroes E when due. The set needs its
  // refresh() afterwards.
  void after_update(int64_t step, float gradient_scale);
  int64_t budget(int64_t step) const;  // ranks of all modules together

  // Which ranks live, by module path; empty before the first cut.
  const RankPattern& pattern() const { return pattern_; }
  struct Cut {
    int64_t step;
    std::vector<int64_t> ranks;  // one per module, in the order of modules()
  };
  const std::vector<Cut>& history() const { return history_; }
  std::vector<std::string> modules() const;

  // What a checkpoint needs to go on: all ranks' values, the running means, pattern and history.
  void write_state(const std::string& folder) const;
  void read_state(const std::string& folder);  // bad_data when it is of another adapter
  // ranks.json: the steps and each module's ranks.
  void write_ranks(const std::string& file) const;

 private:
  struct Means {
    std::vector<float> mean, distance;
  };
  struct Module {
    AdaLora::Triplets triplets;
    Means a, e, b;
  };
  void score(float gradient_scale);
  void cut(int64_t step);
  void mask();
  std::vector<std::pair<std::string, Tensor>> state_tensors() const;

  std::vector<Module> modules_;    // sorted by name
  std::vector<Parameter> beside_;  // what is trained beside the ranks: whole tensors
  AdaloraConfig config_;
  int64_t all_ranks_ = 0;
  RankPattern pattern_;
  std::vector<Cut> history_;
};

}  // namespace loraine
