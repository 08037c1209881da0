// Starts of A and B out of the data: what is made of sums over a pass (train/start_pass.h). EVA (Paischer et al. 2024): A is the strongest
// directions of a layer's inputs, and ranks go to the layers whose inputs they explain most of. CorDA (Yang et al. 2024): singular vectors
// of W C, C = Xᵀ X of the inputs. LoRA-GA (Wang et al. 2024): singular vectors of the gradient of W. Restated from PEFT 0.21.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/core/context.h"

namespace loraine {

// eva, corda, lora_ga.
bool starts_from_data(const LoraConfig& config);
// corda and lora_ga, which take s B A out of the base; nobody finds their start again, so that an adapter is saved for the base as it was.
bool moves_base_by_data(const LoraConfig& config);

// The principal directions of rows that come in batches, and the share of their variance that each explains. sklearn's IncrementalPCA, as
// PEFT has it, with exact singular vectors.
class IncrementalPca {
 public:
  explicit IncrementalPca(int64_t components) : n_(components) {}
  // x [T, F] F32, T at least the number of components; is changed.
  void add(Context& ctx, const Tensor& x);
  bool begun() const { return seen_ > 0; }
  int64_t columns() const { return columns_; }
  const std::vector<float>& components() const { return components_; }  // [n, F], the largest element of each is positive
  const std::vector<float>& singular_values() const { return values_; }
  const std::vector<double>& explained() const { return explained_; }  // shares of the variance

 private:
  int64_t n_, columns_ = 0, seen_ = 0;
  std::vector<float> components_, values_;
  std::vector<double> mean_, variance_, explained_;  // [F], [F], [n]
};

// One layer of EVA: where its components come from, and of which rank and alpha it would be without.
struct EvaLayer {
  std::string path;
  size_t source = 0;  // of the vector of IncrementalPca's: layers with the same inputs have one
  int64_t r = 0;
  double alpha = 0;
};
// Ranks by the shares that components explain, as many in all as Σ r; `most`: components that count, by source. layers: first the one layer
// of each source, in order, then the others.
std::vector<int64_t> eva_ranks(const std::vector<EvaLayer>& layers, const std::vector<IncrementalPca>& sources,
                               const std::vector<int64_t>& most);
// The config with these ranks: rank_pattern and alpha_pattern by whole paths, target_modules too where a layer is left with none.
LoraConfig eva_config(const LoraConfig& config, const std::vector<EvaLayer>& layers, const std::vector<int64_t>& ranks);
double target_alpha(const LoraConfig& config, const std::string& path);  // attach.cpp

// A [r, in] and B [out, r] F32. w [out, in] F32; covariance [in, in]: Xᵀ X of normed inputs, the mean over samples. s: the scale.
void corda_start(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& w, const std::vector<double>& covariance, float s,
                 const CordaConfig& config);
// gradient [out, in] F32: the mean over batches. usage where 2 r is more than its smaller side; `name` is the layer's.
void lora_ga_start(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& gradient, float s,
                   const LoraGaConfig& config, const std::string& name, uint64_t seed);

// The two halves of an adapter that over_whole_base (start.h) made: what was trained into `trained`, the start into `start`.
void split_whole_base(const AdapterSet& doubled, const AdapterSet& trained, const AdapterSet& start);

}  // namespace loraine
