// Names are looked up in the architecture's lists, then in those that most have.
#include "loraine/io/gguf/gguf_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr GgufName kTop[] = {{"token_embd", "model.embed_tokens"},
                             {"output_norm", "model.norm"},
                             {"output", "lm_head"},
                             {"rope_freqs.weight", "", GgufForm::left_out},
                             {"rope_factors_long.weight", "", GgufForm::left_out},
                             {"rope_factors_short.weight", "", GgufForm::left_out}};
constexpr GgufName kBlock[] = {
    {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_qkv", "self_attn.q_proj|self_attn.k_proj|self_attn.v_proj", GgufForm::thirds},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"attn_sinks.weight", "self_attn.sinks"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};

// The name and its parameter (".weight" or ".bias"), or the whole name, in one list.
std::optional<GgufTarget> look_up(GgufNames names, std::string_view whole, std::string_view stem, std::string_view parameter) {
  for (const GgufName& name : names)
    if (whole == name.gguf) return GgufTarget{std::string(name.hugging_face), name.form};
  if (parameter.empty()) return std::nullopt;
  for (const GgufName& name : names) {
    if (stem != name.gguf) continue;
    std::string all;
    for (const char c : name.hugging_face) {
      if (c == '|') all += parameter;
      all += c;
    }
    return GgufTarget{all + std::string(parameter), name.form};
  }
  return std::nullopt;
}

std::optional<GgufTarget> look_up(const std::vector<GgufNames>& lists, GgufNames common, std::string_view whole, std::string_view stem,
                                  std::string_view parameter) {
  for (const GgufNames& list : lists)
    if (auto found = look_up(list, whole, stem, parameter)) return found;
  return look_up(common, whole, stem, parameter);
}

bool is_shifted_norm(const GgufArchitecture& architecture, std::string_view stem, std::string_view parameter, GgufForm form) {
  return architecture.traits.norms_plus_one && stem.ends_with("norm") && parameter != ".bias" && form != GgufForm::unshifted;
}

}  // namespace

std::vector<uint64_t> gguf_layer_sizes(const GgufFile& file, std::string_view key, uint64_t layers) {
  const std::string full = file.text("general.architecture").value_or("") + "." + std::string(key);
  const GgufValue* value = file.find(full);
  if (!value) return {};
  std::vector<uint64_t> sizes;
  if (value->type == GgufType::Array) {
    for (const int64_t size : file.integers(full)) {
      if (size < 0) throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds {}, which cannot be", file.path, full, size));
      sizes.push_back(static_cast<uint64_t>(size));
    }
    if (sizes.size() < layers)
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} has {} entries for {} layers", file.path, full, sizes.size(), layers));
  } else {
    sizes.assign(std::max<uint64_t>(layers, 1), *file.unsigned_integer(full));
  }
  for (const uint64_t size : sizes)
    if (size > (1ull << 31)) throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, which cannot be", file.path, full, size));
  return sizes;
}

std::optional<uint64_t> gguf_size(const GgufFile& file, std::string_view key) {
  const std::vector<uint64_t> sizes = gguf_layer_sizes(file, key, 0);
  if (sizes.empty()) return std::nullopt;
  uint64_t one = 0;
  for (const uint64_t size : sizes) {
    if (size != 0 && one != 0 && size != one)
      throw Error(ErrorKind::bad_data, fmt::format("{}: {}.{} differs between layers, which is not supported", file.path,
                                                   file.text("general.architecture").value_or(""), key));
    if (size != 0) one = size;
  }
  return one;
}

uint64_t required_gguf_size(const GgufFile& file, std::string_view key) {
  auto size = gguf_size(file, key);
  if (!size || *size == 0)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}.{} is {}", file.path, file.text("general.architecture").value_or(""), key,
                                                 size ? "0, expected a positive number" : "missing"));
  return *size;
}

GgufNames gguf_common_names(bool in_layer) { return in_layer ? GgufNames(kBlock) : GgufNames(kTop); }

std::optional<GgufTarget> gguf_target(const GgufArchitecture& architecture, std::string_view name) {
  const bool ends = name.ends_with(".weight") || name.ends_with(".bias");
  std::string_view whole = name, parameter = ends ? name.substr(name.rfind('.')) : "";
  if (!whole.starts_with("blk.")) {
    const std::string_view stem = whole.substr(0, whole.size() - parameter.size());
    auto target = look_up({architecture.traits.top}, kTop, whole, stem, parameter);
    if (target) target->minus_one = is_shifted_norm(architecture, stem, parameter, target->form);
    return target;
  }
  whole.remove_prefix(4);
  size_t digits = 0;
  while (digits < whole.size() && whole[digits] >= '0' && whole[digits] <= '9') ++digits;
  // No leading zeros: "blk.01" and "blk.1" would become one name.
  if (digits == 0 || digits > 6 || (digits > 1 && whole[0] == '0') || digits + 1 >= whole.size() || whole[digits] != '.')
    return std::nullopt;
  const std::string layer = fmt::format("{}.{}.", architecture.traits.layers, whole.substr(0, digits));
  whole.remove_prefix(digits + 1);
  const std::string_view stem = whole.substr(0, whole.size() - std::min(parameter.size(), whole.size()));
  auto target = look_up(architecture.block, kBlock, whole, stem, parameter);
  if (!target || target->form == GgufForm::left_out) return target;
  std::string full = layer;
  for (const char c : target->name) {
    full += c;
    if (c == '|') full += layer;
  }
  target->name = full;
  target->minus_one = is_shifted_norm(architecture, stem, parameter, target->form);
  target->pairs = architecture.traits.pairs && (stem == "attn_q" || stem == "attn_k" || stem == "attn_qkv");
  return target;
}

}  // namespace loraine
