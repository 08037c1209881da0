// What the tensors of a GGUF are called at Hugging Face, and sizes in its metadata.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "loraine/io/gguf/gguf_architecture.h"

namespace loraine {

// "<architecture>.<key>", the same for all layers: an array whose entries are equal, or 0 (in layers without), counts as one number.
// nullopt when absent.
std::optional<uint64_t> gguf_size(const GgufFile& file, std::string_view key);
uint64_t required_gguf_size(const GgufFile& file, std::string_view key);
// The same layer by layer; empty when absent.
std::vector<uint64_t> gguf_layer_sizes(const GgufFile& file, std::string_view key, uint64_t layers);

struct GgufTarget {
  std::string name;  // may hold {} and |, as GgufName's
  GgufForm form = GgufForm::as_stored;
  bool pairs = false;      // its rows are stored in pairs
  bool minus_one = false;  // 1 is taken off its values
};
// "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight"; nullopt when the architecture has no such name.
std::optional<GgufTarget> gguf_target(const GgufArchitecture& architecture, std::string_view name);
// Those that most architectures have: of a layer, or outside layers.
GgufNames gguf_common_names(bool in_layer);

}  // namespace loraine
