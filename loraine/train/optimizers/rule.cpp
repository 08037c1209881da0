// Shapes of states.
#include "loraine/train/optimizers/rule.h"

#include "loraine/core/error.h"

namespace loraine {

void add_moment(std::vector<StateShape>& states, const std::string& name, int64_t rows, int64_t cols, bool eight_bits) {
  states.push_back({name, eight_bits ? Dtype::U8 : Dtype::F32, {rows, cols}});
  if (eight_bits) states.push_back({name + "_scale", Dtype::F32, {moment_blocks(rows * cols)}});
}

Moment take_moment(States& states, bool eight_bits, bool with_sign) {
  const size_t count = eight_bits ? 2 : 1;
  if (states.size() < count) throw Error(ErrorKind::internal, "a rule takes more states than it keeps");
  const Moment moment{states[0], eight_bits ? states[1] : Tensor(), with_sign};
  states = states.subspan(count);
  return moment;
}

bool holds_eight_bits(const Parameter& parameter) {
  constexpr int64_t kLeast = 4096;
  const bool embedding = parameter.name.find("embed_tokens") != std::string::npos && parameter.name.ends_with(".weight") &&
                         parameter.name.find("lora_") == std::string::npos;
  return parameter.value.numel() >= kLeast && !embedding;
}

}  // namespace loraine
