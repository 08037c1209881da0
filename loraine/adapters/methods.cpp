// The list of methods.
#include "loraine/adapters/methods.h"

#include <algorithm>

#include "loraine/adapters/adalora.h"
#include "loraine/adapters/dora.h"
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

const std::vector<Method>& methods() {
  static const std::vector<Method> all = {
      {"peft method", [](const LoraConfig& c) { return c.method != nullptr; },
       [](const LoraConfig& c, SiteRequest request) { return c.method->make(std::move(request), c); }},
      {"dora", [](const LoraConfig& c) { return c.use_dora; }, make_dora},
      {"adalora", [](const LoraConfig& c) { return c.adalora.has_value(); }, make_adalora},
      {"lora", [](const LoraConfig&) { return true; }, make_lora},
  };
  return all;
}

std::unique_ptr<Adapter> make_adapter(const LoraConfig& config, SiteRequest request) {
  const auto method = std::ranges::find_if(methods(), [&](const Method& m) { return m.chosen(config); });
  return method->make(config, std::move(request));
}

}  // namespace loraine
