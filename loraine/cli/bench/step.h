// The speed of a training step beside oneDNN's own products of the same shapes. Called by bench.
#pragma once
#include <vector>

#include "loraine/core/context.h"
#include "loraine/model/decoder.h"

namespace loraine {

struct StepBench {
  int64_t rank = 8, repeats = 3;
  Recompute recompute = Recompute::none;
  bool profile = false;
};

struct StepFigures {
  double tokens_per_second = 0, step_rate = 0, library_rate = 0, share = 0, cpu_share = 0;
  std::vector<double> round_cpu_shares;  // cpu_share of every round by itself
  int64_t peak = 0;
  double flops_per_token = 0;
  double profiled_seconds = 0;  // of the one step that `profile` saw
  OpProfile profile;
};

StepFigures bench_step(Context& ctx, const Model& model, int64_t tokens, const StepBench& how);

}  // namespace loraine
