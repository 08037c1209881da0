// Kinds of parameters by words in their names.
#include "loraine/train/optimizers/rules/adam_mini.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "loraine/core/error.h"

namespace loraine {
namespace {

bool holds(const std::string& name, std::initializer_list<const char*> words) {
  std::string lower = name;
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return std::ranges::any_of(words, [&](const char* word) { return lower.find(word) != std::string::npos; });
}

}  // namespace

bool adam_mini_decays(const std::string& name) { return !holds(name, {"norm", "ln", "bias"}); }

int64_t AdamMiniRule::groups(const Parameter& p) const {
  const int64_t n = p.value.numel();
  if (holds(p.name, {"bias"})) return n;  // plain AdamW
  if (holds(p.name, {"k_proj", "q_proj", "wq", "wk", "query", "key"})) {
    if (head_elements_ > 0 && n % head_elements_ == 0) return n / head_elements_;
    throw Error(ErrorKind::usage,
                fmt::format("use_adam_mini: {} of shape {} has no whole number of heads of {} elements", p.name, p.value.shape_text(),
                            head_elements_),
                "Adam-mini is made for full training of models whose heads together are as wide as hidden_size; choose another optimizer");
  }
  if (holds(p.name, {"embed", "embd", "wte", "lm_head", "output", "final_layer", "v_proj", "wv", "value", "feed_forward", "linear", "mlp",
                     "o_proj", "wo", "attn.proj"})) {
    if (p.value.rank == 3)
      throw Error(ErrorKind::usage,
                  fmt::format("use_adam_mini: {} holds the matrices of all experts, and Adam-mini has no rule for them", p.name),
                  "choose another optimizer");
    if (p.value.rank == 2) return p.value.rows();
    throw Error(ErrorKind::usage, fmt::format("use_adam_mini: {} is a vector, and Adam-mini has no rule for one there", p.name),
                "leave use_dora out, or choose another optimizer");
  }
  return 1;
}

std::vector<StateShape> AdamMiniRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  add_moment(states, "m", parameter.value.rows(), parameter.value.cols());
  states.push_back({"v", Dtype::F32, {groups(parameter)}});
  return states;
}

void AdamMiniRule::update(Context& ctx, const Update& u, States states, float*) const {
  if (states[1].numel() == u.value.numel()) return adam(ctx, u, Moment{states[0]}, Moment{states[1]}, options_);
  adam_mini(ctx, u, states[0], states[1], options_);
}

}  // namespace loraine
