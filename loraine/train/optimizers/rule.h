// The seam of all optimizers: which states a rule keeps of a parameter, and how it updates one. Used by Optimizer; recipe.cpp chooses
// rules.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {

struct StateShape {
  std::string name;  // in checkpoints after the parameter's name: "lora_A.weight.m"
  Dtype dtype = Dtype::F32;
  std::vector<int64_t> shape;
};

using States = std::span<const Tensor>;  // in the order of Rule::states, zeros before the first update

class Rule {
 public:
  virtual ~Rule() = default;
  virtual std::vector<StateShape> states(const Parameter& parameter) const = 0;
  // Bytes of memory that one update may use beside the states. What it holds is lost between two calls.
  virtual size_t scratch_bytes(const Parameter&) const { return 0; }
  virtual void update(Context& ctx, const Update& u, States states, float* scratch) const = 0;
  // For a rule that trains a part of a parameter at a time: what it will not look at at this update becomes 0 in the gradient, so that the
  // norm does not count it. scratch: as in update.
  virtual void restrict_gradient(const Update&, float*) const {}
  // For a rule whose values to evaluate and save are others than those it trains: from these to those, and back.
  virtual bool averages() const { return false; }
  virtual void to_averages(Context&, const Tensor&, States) const {}
  virtual void to_training(Context&, const Tensor&, States) const {}
};

// A state of the parameter's size, F32; with `eight_bits` codes and their scales instead, two states.
void add_moment(std::vector<StateShape>& states, const std::string& name, int64_t rows, int64_t cols, bool eight_bits = false);
// Takes the next states of the list as such a moment.
Moment take_moment(States& states, bool eight_bits = false, bool with_sign = true);
// bitsandbytes' rule for states of 8 bits: not below 4096 elements, and not for an embedding's weight.
bool holds_eight_bits(const Parameter& parameter);

}  // namespace loraine
