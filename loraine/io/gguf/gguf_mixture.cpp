// The rules of llama.cpp's llama_tensor_get_type for the mixtures that are written.
#include "loraine/io/gguf/gguf_mixture.h"

#include <cstdlib>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr GgufRecipe kRecipes[] = {{"f32", 0, Dtype::F32},
                                   {"f16", 1, Dtype::F16},
                                   {"bf16", 32, Dtype::BF16},
                                   {"q8_0", 7, Dtype::Q8_0},
                                   {"q4_0", 2, Dtype::Q4_0},
                                   {"q4_1", 3, Dtype::Q4_1},
                                   {"q5_0", 8, Dtype::Q5_0},
                                   {"q5_1", 9, Dtype::Q5_1},
                                   {"q4_k_s", 14, Dtype::Q4_K, false, true},
                                   {"q4_k_m", 15, Dtype::Q4_K, true},
                                   {"q5_k_s", 16, Dtype::Q5_K},
                                   {"q5_k_m", 17, Dtype::Q5_K, true},
                                   {"q6_k", 18, Dtype::Q6_K}};

bool holds(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

// Small, or read element by element: these are F32 in every file.
bool always_f32(std::string_view name, size_t rank) {
  return rank <= 1 || name.ends_with("_norm.weight") || holds(name, "ffn_gate_inp") || holds(name, "ssm_conv1d") ||
         holds(name, "shortconv.conv");
}

int64_t layer_of(std::string_view name) {
  return name.starts_with("blk.") ? std::strtoll(std::string(name.substr(4)).c_str(), nullptr, 10) : 0;
}

// Where rows are no multiple of the type's block.
Dtype fitting(Dtype type, int64_t columns) {
  if (columns % block_of(type).elements == 0) return type;
  const Dtype narrower = type == Dtype::Q4_K ? Dtype::Q5_0 : type == Dtype::Q5_K ? Dtype::Q5_1 : type == Dtype::Q6_K ? Dtype::Q8_0 : type;
  return columns % block_of(narrower).elements == 0 ? narrower : Dtype::F16;
}

}  // namespace

const GgufRecipe& gguf_recipe(std::string_view name) {
  std::string known;
  for (const GgufRecipe& recipe : kRecipes) {
    if (recipe.name == name) return recipe;
    known += (known.empty() ? "" : ", ") + std::string(recipe.name);
  }
  throw Error(ErrorKind::usage, "gguf_type is '" + std::string(name) + "', expected one of " + known);
}

bool GgufMixture::more_bits(int64_t at, int64_t of) const { return at < of / 8 || at >= 7 * of / 8 || (at - of / 8) % 3 == 2; }

Dtype GgufMixture::chosen(std::string_view name, int64_t columns) {
  const Dtype type = recipe_.matrices;
  const bool eight = shape_.experts == 8;
  const auto is = [&](std::string_view what) { return holds(name, what); };
  if (name == "output.weight" || (shape_.tied && name == "token_embd.weight"))
    return columns % block_of(type).elements != 0 || type == Dtype::Q8_0 ? Dtype::Q8_0 : Dtype::Q6_K;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") return type;
  if (is("attn_qkv.weight") || is("attn_kv_b.weight") || is("attn_v.weight")) {
    Dtype values = type;
    if (recipe_.more_bits && more_bits(values_seen_, shape_.value_matrices)) values = Dtype::Q6_K;
    else if (recipe_.first_bits && values_seen_ < 4) values = Dtype::Q5_K;
    const bool of_70b = shape_.layers == 80 && ((shape_.architecture == "llama" && shape_.heads != shape_.kv_heads) ||
                                                shape_.architecture == "qwen2" || shape_.architecture == "olmo");
    if (of_70b && values == Dtype::Q4_K) values = Dtype::Q5_K;
    ++values_seen_;
    return eight ? Dtype::Q8_0 : values;
  }
  if (is("attn_k.weight")) return eight ? Dtype::Q8_0 : type;
  if (is("attn_output.weight")) return eight && type == Dtype::Q4_K ? Dtype::Q5_K : type;
  if (is("ffn_up") || is("ffn_gate") || !is("ffn_down")) return type;
  const int64_t at = shape_.experts > 1 ? layer_of(name) : downs_seen_++;
  if (shape_.importance && at < shape_.layers / 8) {  // weighted searches without a minimum go astray in the first ones
    if (recipe_.file_type == 2) return Dtype::Q4_1;
    if (recipe_.file_type == 8) return Dtype::Q5_1;
  }
  if (recipe_.more_bits && more_bits(at, shape_.layers)) return Dtype::Q6_K;
  return recipe_.first_bits && at < shape_.layers / 8 ? Dtype::Q5_K : type;
}

Dtype GgufMixture::type_of(std::string_view name, const std::vector<int64_t>& tensor_shape) {
  if (always_f32(name, tensor_shape.size())) return Dtype::F32;
  if (!recipe_.quantised()) return recipe_.matrices;
  if (!name.ends_with(".weight") || holds(name, "per_layer_model_proj")) return Dtype::F16;
  return fitting(chosen(name, tensor_shape.back()), tensor_shape.back());
}

}  // namespace loraine
