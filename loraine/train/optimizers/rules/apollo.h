// APOLLO (Zhu et al. 2024): the gradient itself, each channel (or the whole matrix) scaled by how AdamW would scale it in a small random
// space.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/gradient_space.h"

namespace loraine {

struct ApolloOptions {
  Adam adam;
  LowRankOptions space;
  double scale = 1;
  bool singular = false;     // the space of the singular vectors instead
  bool by_channel = true;    // else one factor for the matrix
  bool scale_front = false;  // the scale goes in before the growth of the norm is limited
};

// As apollo-torch computes it, with its limit of 1.01 on the growth of a change's norm; see PlainAdamWRule for what is outside its targets.
class ApolloRule : public Rule {
 public:
  ApolloRule(const ApolloOptions& options, uint64_t seed) : o_(options), seed_(seed) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  size_t scratch_bytes(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  ApolloOptions o_;
  uint64_t seed_;
};

}  // namespace loraine
