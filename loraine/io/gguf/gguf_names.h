// What a GGUF architecture is called at Hugging Face: tensor names, and which rows llama.cpp's converter reordered.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "loraine/io/gguf/gguf.h"

namespace loraine {

// general.architecture; bad_data unless llama, qwen2 or qwen3.
std::string gguf_architecture(const GgufFile& file);

// "<architecture>.<key>", the same for all layers: an array with equal entries counts as one number. nullopt when absent.
std::optional<uint64_t> gguf_size(const GgufFile& file, std::string_view key);
uint64_t required_gguf_size(const GgufFile& file, std::string_view key);

// "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight"; "" for a tensor that Hugging Face keeps elsewhere (rope_freqs);
// nullopt when the name is unknown.
std::optional<std::string> hugging_face_name(std::string_view name);

// Heads whose rows are interleaved in the file ("llama": rows of q and k of each head are ordered 0, d/2, 1, d/2+1, …); 0 = as at Hugging
// Face.
uint64_t permuted_heads(const GgufFile& file, std::string_view architecture, std::string_view name);

}  // namespace loraine
