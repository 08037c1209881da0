// Evaluations of a run that trains in float32, computed in bfloat16 (bf16_full_eval), in memory of their own. Called by the step loop.
#pragma once
#include <vector>

#include "loraine/model/decoder.h"

namespace loraine {

class Bf16Evaluation {
 public:
  // For batches of up to `rows` rows, the sets over all of them.
  Bf16Evaluation(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets);
  Bf16Evaluation(const Bf16Evaluation&) = delete;
  static size_t bytes(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets);
  Pass& pass() { return pass_; }

  // The model computes in bfloat16 while one of these is there.
  class On {
   public:
    explicit On(Model& model) : model_(model), was_(model.use_bf16) { model.use_bf16 = true; }
    ~On() { model_.use_bf16 = was_; }
    On(const On&) = delete;

   private:
    Model& model_;
    bool was_;
  };

 private:
  struct Sizes {
    size_t activations, scratch;
  };
  static Sizes sizes(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets);
  Bf16Evaluation(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets, const Sizes& sizes);
  Arena memory_, scratch_;
  Activations activations_;
  Pass pass_;
};

}  // namespace loraine
