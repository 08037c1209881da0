// quant_aware: training for the GGUF that is exported. The forward goes through the codes that `loraine export --export_format gguf
// --gguf_type TYPE` would write of base and adapter, the gradient through them as if they were not rounded (straight-through, Jacob et al.
// 2018); codes are made anew every so many updates, and before every evaluation. Called by train().
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/export/gguf.h"
#include "loraine/model/model.h"

namespace loraine {

class RoundedBaseLora;

class QuantAware {
 public:
  // Puts codes of `type` (gguf_recipe; F16 where no block fits) in the place of the model's matrices, norms and the like stay, and wraps
  // the set's adapters. The
  // model's own file is read again for every refresh: nothing but codes is kept. Throws unsupported for models of which no GGUF is written,
  // for packed bases, and for adapters that are not A and B at linear layers.
  QuantAware(Model& model, AdapterSet& set, const ModelFiles& files, const std::string& type);
  ~QuantAware();
  // The codes of base and adapter as it is now. step: nothing happens twice in the same one, but with `changed`.
  void refresh(int64_t step, bool changed = false);
  int64_t matrices() const { return static_cast<int64_t>(coded_.size()); }

 private:
  struct Coded {
    const WeightToWrite* source;  // base + adapter, in the type of the base's file
    Buffer memory;
    Tensor codes;  // [out, in]
    bool adapted;  // otherwise the codes stay what they are
    bool made = false;
  };
  void make(Coded& coded);
  std::unique_ptr<Merge> merge_;
  GgufPlan plan_;
  std::vector<Coded> coded_;
  std::vector<RoundedBaseLora*> adapters_;
  int64_t step_ = -1;
};

}  // namespace loraine
