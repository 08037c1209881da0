// LoRA on the matrices of experts, PEFT's target_parameters. Parameters are held as PEFT has them; products take copies that lie by expert
// (kernels/experts/expert_adapter.h). Called by attach, the mixer of experts, and export.
#pragma once
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/kernels/experts/expert_adapter.h"

namespace loraine {

struct ExpertLoraShape {
  std::string key;  // what stands before .lora_A.weight, "base_model.model.model.layers.0.mlp.experts.base_layer"
  int64_t experts = 0, in = 0, out = 0, r = 0;
  float scale = 1;
  bool a_gives_output = false;  // A has out columns and B in rows (ExpertWeights)
  bool older_differs = true;    // PEFT before 0.19 has it the other way
};

class ExpertLora {
 public:
  ExpertLora(ExpertLoraShape shape, bool trained);
  const ExpertLoraShape& shape() const { return shape_; }
  const ExpertFactors& factors() const { return factors_; }
  const ExpertFactors& gradients() const { return gradients_; }  // that a backward adds to; of a trained one
  std::vector<Parameter> parameters() const;
  void refresh();           // after the parameters have changed: the factors
  void finish_gradients();  // after the last backward before an update: the gradients of the parameters
  // Sets the parameters by the factors.
  void take_factors(const ExpertFactors& factors);
  // A and B of a file in the other order of PEFT's (`a_gives_output` is not this one's) become the parameters. [r · E, …], […, r · E] F32.
  void take_other_order(const Tensor& a, const Tensor& b);
  void initialise(const std::string& init, std::mt19937_64& random);  // init_lora_weights: true, false or gaussian
  // w += what the adapter adds to columns [first, first + n) of expert e's product, w [n, in], or [in, n] when transposed.
  void merge_into(Context& ctx, const Tensor& w, int64_t e, int64_t first, bool transposed) const;
  // The same in double; rows of [E · n, in] or [E · in, n] are counted through, of one expert with E = 1 and e its number.
  MergeRow exact_merge(int64_t e, int64_t first, int64_t n, bool transposed) const;

 private:
  ExpertLoraShape shape_;
  bool trained_;
  Buffer memory_;
  Tensor a_, b_, d_a_, d_b_;  // PEFT's
  ExpertFactors factors_, gradients_;
};

// One that adds what all of them add, over the same parameter, each times a weight.
std::shared_ptr<ExpertLora> join(const std::vector<const ExpertLora*>& adapters, const std::vector<float>& weights);

}  // namespace loraine
