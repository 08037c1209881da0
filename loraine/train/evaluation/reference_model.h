// ref_model: another model than the one that trains, with adapters of its own, that preferences are compared with. Called by the step loop.
#pragma once
#include <memory>

#include "loraine/train/evaluation/side_pass.h"

namespace loraine {

struct TrainConfig;
struct GpuBase;
class GpuAnswers;

class ReferenceModel {
 public:
  ~ReferenceModel();
  // Loads ref_model with ref_model_adapters, in ref_model_quantization_bit. Throws bad_data where its vocabulary is not the policy's.
  ReferenceModel(const TrainConfig& config, const Model& policy);
  size_t pass_bytes(int64_t rows) const { return SidePass::bytes(model_, rows, set()); }
  void plan_pass(int64_t rows) { pass_ = std::make_unique<SidePass>(model_, rows, set()); }
  // The same on the GPU, where its model moves to. Throws unsupported that says what of it has no GPU code.
  size_t gpu_bytes(int64_t rows) const;
  void plan_pass_on_gpu(int64_t rows);
  SidePass& pass() { return *pass_; }  // once it is planned

 private:
  const AdapterSet* set() const { return adapters_.sites.empty() ? nullptr : &adapters_; }
  Model model_;
  AdapterSet adapters_;
  std::unique_ptr<GpuBase> gpu_;
  std::unique_ptr<GpuAnswers> answers_;
  std::unique_ptr<SidePass> pass_;
};

}  // namespace loraine
