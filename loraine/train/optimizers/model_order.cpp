// By places of the parts of a name.
#include "loraine/train/optimizers/model_order.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <tuple>

namespace loraine {
namespace {

// The first of the words that the name holds.
template <size_t N>
size_t first_of(const std::string& name, const std::array<const char*, N>& words) {
  return static_cast<size_t>(std::ranges::find_if(words, [&](const char* word) { return name.find(word) != std::string::npos; }) -
                             words.begin());
}

constexpr std::array kModules = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",        "self_attn.o_proj",
                                 "self_attn.q_norm", "self_attn.k_norm", "mlp.gate_proj",           "mlp.up_proj",
                                 "mlp.down_proj",    "input_layernorm",  "post_attention_layernorm"};
constexpr std::array kTensors = {"base_layer",           "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_E",
                                 "lora_magnitude_vector"};

auto place(const std::string& name) {
  const int64_t layer = layer_of(name);
  const int part = layer >= 0 ? 1 : name.find("embed_tokens") != std::string::npos ? 0 : name.find("lm_head") != std::string::npos ? 3 : 2;
  return std::tuple(part, layer, first_of(name, kModules), first_of(name, kTensors), name.ends_with("bias"), name);
}

}  // namespace

int64_t layer_of(const std::string& name) {
  constexpr std::string_view kWord = "layers.";
  const size_t at = name.find(kWord);
  int64_t layer = -1;
  if (at == std::string::npos) return -1;
  std::from_chars(name.data() + at + kWord.size(), name.data() + name.size(), layer);
  return layer;
}

std::vector<size_t> model_order(std::span<const Parameter> parameters) {
  std::vector<size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return place(parameters[i].name); });
  return order;
}

}  // namespace loraine
