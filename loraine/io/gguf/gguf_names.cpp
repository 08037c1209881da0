// Names and row orders of GGUF models.
#include "loraine/io/gguf/gguf_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

struct Pair {
  std::string_view gguf, hugging_face;
};
constexpr Pair kTop[] = {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
constexpr Pair kBlock[] = {{"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
                           {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
                           {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
                           {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
                           {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
                           {"ffn_down", "mlp.down_proj"}};

bool ends_as_parameter(std::string_view name) { return name.ends_with(".weight") || name.ends_with(".bias"); }

}  // namespace

std::string gguf_architecture(const GgufFile& file) {
  auto name = file.text("general.architecture");
  if (!name) throw Error(ErrorKind::bad_data, file.path + ": has no general.architecture");
  if (*name != "llama" && *name != "qwen2" && *name != "qwen3")
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: is of the architecture {}, expected llama (also Mistral), qwen2 or qwen3", file.path, in_quotes(*name)),
                "give the model as a Hugging Face folder");
  if (file.find(*name + ".expert_count") && *file.unsigned_integer(*name + ".expert_count") > 0)
    throw Error(ErrorKind::bad_data, file.path + ": is a mixture of experts, which is not read from GGUF",
                "give the model as a Hugging Face folder");
  return *name;
}

std::optional<uint64_t> gguf_size(const GgufFile& file, std::string_view key) {
  std::string full = file.text("general.architecture").value_or("") + "." + std::string(key);
  const GgufValue* value = file.find(full);
  if (!value) return std::nullopt;
  uint64_t size = 0;
  if (value->type == GgufType::Array) {
    auto sizes = file.integers(full);
    if (sizes.empty() || std::any_of(sizes.begin(), sizes.end(), [&](int64_t s) { return s != sizes[0]; }) || sizes[0] < 0)
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} differs between layers, which is not supported", file.path, full));
    size = static_cast<uint64_t>(sizes[0]);
  } else {
    size = *file.unsigned_integer(full);
  }
  if (size > (1ull << 31)) throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, which cannot be", file.path, full, size));
  return size;
}

uint64_t required_gguf_size(const GgufFile& file, std::string_view key) {
  auto size = gguf_size(file, key);
  if (!size || *size == 0)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}.{} is {}", file.path, file.text("general.architecture").value_or(""), key,
                                                 size ? "0, expected a positive number" : "missing"));
  return *size;
}

std::optional<std::string> hugging_face_name(std::string_view name) {
  if (name == "rope_freqs.weight") return "";
  if (!ends_as_parameter(name)) return std::nullopt;
  std::string_view stem = name.substr(0, name.rfind('.')), parameter = name.substr(name.rfind('.'));
  for (const Pair& pair : kTop)
    if (stem == pair.gguf) return std::string(pair.hugging_face) + std::string(parameter);
  if (!stem.starts_with("blk.")) return std::nullopt;
  stem.remove_prefix(4);
  size_t digits = 0;
  while (digits < stem.size() && stem[digits] >= '0' && stem[digits] <= '9') ++digits;
  // No leading zeros: "blk.01" and "blk.1" would become one name.
  if (digits == 0 || digits > 6 || (digits > 1 && stem[0] == '0') || digits + 1 >= stem.size() || stem[digits] != '.') return std::nullopt;
  for (const Pair& pair : kBlock)
    if (stem.substr(digits + 1) == pair.gguf)
      return fmt::format("model.layers.{}.{}{}", stem.substr(0, digits), pair.hugging_face, parameter);
  return std::nullopt;
}

uint64_t permuted_heads(const GgufFile& file, std::string_view architecture, std::string_view name) {
  if (architecture != "llama") return 0;
  bool query = name.ends_with(".attn_q.weight") || name.ends_with(".attn_q.bias");
  bool key = name.ends_with(".attn_k.weight") || name.ends_with(".attn_k.bias");
  if (!query && !key) return 0;
  uint64_t heads = required_gguf_size(file, "attention.head_count");
  if (key) heads = gguf_size(file, "attention.head_count_kv").value_or(heads);
  if (heads == 0) throw Error(ErrorKind::bad_data, file.path + ": llama.attention.head_count_kv is 0");
  return heads;
}

}  // namespace loraine
