// Which type each tensor of a file gets: llama-quantize's mixtures. Called by export.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/core/dtype.h"

namespace loraine {

struct GgufRecipe {
  std::string_view name;    // "q4_k_m"
  uint32_t file_type;       // general.file_type
  Dtype matrices;           // what most matrices get
  bool more_bits = false;   // the values' and down projections of some layers get Q6_K
  bool first_bits = false;  // or those of the first layers Q5_K
  bool quantised() const { return is_packed(matrices); }
};
const GgufRecipe& gguf_recipe(std::string_view name);  // throws usage with the list

// What the mixtures look at.
struct GgufShape {
  std::string architecture;
  int64_t layers = 0, heads = 0, kv_heads = 0, experts = 0;
  int64_t value_matrices = 0;  // tensors attn_v, attn_qkv and attn_kv_b
  bool tied = false;           // there is no output.weight
  bool importance = false;     // there is an importance matrix
};

// To be asked for every tensor in the file's order: some rules count.
class GgufMixture {
 public:
  GgufMixture(const GgufRecipe& recipe, GgufShape shape) : recipe_(recipe), shape_(std::move(shape)) {}
  Dtype type_of(std::string_view name, const std::vector<int64_t>& tensor_shape);

 private:
  Dtype chosen(std::string_view name, int64_t columns);
  bool more_bits(int64_t at, int64_t of) const;
  const GgufRecipe& recipe_;
  GgufShape shape_;
  int64_t values_seen_ = 0, downs_seen_ = 0;
};

}  // namespace loraine
