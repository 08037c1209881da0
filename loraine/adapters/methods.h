// The methods of adapting a site, one line each. Called by attach().
#pragma once
#include <memory>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/lora.h"

namespace loraine {

// What a method gets to make its adapter of one site.
struct SiteRequest {
  const Weight& base;
  std::vector<LoraPart> parts;  // rank and scale by LoRA's rules
  uint64_t site;
  bool trained;
  std::shared_ptr<MethodTensors> shared = nullptr;  // what PeftMethod::make_shared made
};

struct Method {
  const char* name;
  bool (*chosen)(const LoraConfig& config);
  std::unique_ptr<Adapter> (*make)(const LoraConfig& config, SiteRequest request);
};

// The first one that is chosen counts; the last is always chosen.
const std::vector<Method>& methods();
std::unique_ptr<Adapter> make_adapter(const LoraConfig& config, SiteRequest request);

}  // namespace loraine
