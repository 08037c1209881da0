// What models with learned positions (GPT-2) add to the embeddings: a row of a table by a token's position. The first branch of the first
// layer; it does not depend on what it reads.
#pragma once
#include <memory>
#include <string>

#include "loraine/model/mixer.h"

namespace loraine {

struct LearnedPositionsConfig final : MixerConfig {
  int64_t hidden_size = 0, positions = 0;
  std::string name;  // the whole path of the table
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class LearnedPositions final : public Mixer {
 public:
  LearnedPositions(const LearnedPositionsConfig& config, Placement& placement);
  Parts parts() override { return {{}, {&table_}}; }
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena&, int64_t, Dtype) const override { return {}; }
  size_t scratch_bytes(const PassNeed&) const override { return 0; }
  // Throws usage for a position beyond the table.
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  Tensor as_table(const Tensor& values) const { return Tensor(values.data, Dtype::F32, {c_.positions, c_.hidden_size}); }

  LearnedPositionsConfig c_;
  Vector table_;  // [positions, hidden_size]
};

}  // namespace loraine
