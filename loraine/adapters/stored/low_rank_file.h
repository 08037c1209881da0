// A saved adapter as the low-rank products that it adds to matrices, whatever model it is for. Called by what works on adapters without
// their base: merge, resize, diff, convert.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/peft_files.h"

namespace loraine {

// ΔW [out, in] = scale · B A. Of an embedding [V, C] it is the transposed one: in is V, out is C.
struct LowRankModule {
  std::string path;  // "model.layers.0.self_attn.q_proj"
  bool embedding = false;
  int64_t in = 0, out = 0, r = 0;
  double scale = 1;
  std::vector<float> a, b;  // [r, in], [out, r]
};

// Where a module lies in the file.
struct LowRankPlace {
  std::string path;
  bool embedding = false;
  int64_t in = 0, out = 0, r = 0;
  double scale = 1;
  const TensorInfo* a = nullptr;
  const TensorInfo* b = nullptr;
  const TensorInfo* e = nullptr;  // AdaLoRA's values [r, 1], which become part of A
};

class LowRankFile {
 public:
  // bad_data where config and tensors do not fit each other; unsupported, by name, for what is no sum of low-rank products: experts.
  explicit LowRankFile(const std::string& folder);
  const std::string& folder() const { return folder_; }
  const LoraConfig& config() const { return config_; }
  const std::vector<LowRankPlace>& modules() const { return modules_; }  // by name, numbers by their value
  const LowRankPlace* find(const std::string& path) const;
  // What it does beside its low-rank products, a text each: whole tensors, DoRA's magnitudes, a start that changed the base. Empty for
  // most.
  const std::vector<std::string>& beside() const { return beside_; }
  LowRankModule read(const LowRankPlace& place) const;  // bad_data for values that are not finite
  // Tensors beside A and B that count over any rank: DoRA's magnitudes, biases of B, what is trained whole. By the names of the file.
  const std::vector<const TensorInfo*>& others() const { return others_; }
  Tensor read_other(const TensorInfo& info, Buffer& memory) const;  // as F32

 private:
  std::string folder_;
  LoraConfig config_;
  AdapterFile file_;
  std::vector<LowRankPlace> modules_;
  std::vector<std::string> beside_;
  std::vector<const TensorInfo*> others_;
};

// Throws unsupported for an adapter whose start changed or quantised its base, in which its first rank counts.
void refuse_changed_base(const LowRankFile& file, const std::string& what);
// Throws unsupported naming what the adapter does beside low-rank products; `what`: "merged", "resized", …
void refuse_beside(const LowRankFile& file, const std::string& what);

// Whether one name comes before another where numbers count by their value: "layers.2" before "layers.10".
bool before_by_number(const std::string& a, const std::string& b);

}  // namespace loraine
