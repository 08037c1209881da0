// The methods of PEFT beside LoRA and AdaLoRA: what a peft_type of adapter_config.json says, and how its adapters are made. One pair of
// files per method in this room, and one line in peft_methods.cpp. Called by attach, start, peft_files and the settings of training.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/methods.h"
#include "loraine/adapters/peft_methods/method_keys.h"
#include "loraine/adapters/peft_methods/method_tensors.h"

namespace loraine {

struct PeftMethodKind;

// A method with the values of its own keys; shared by all its adapters, and never changed.
class PeftMethod {
 public:
  virtual ~PeftMethod() = default;
  // Tensors that all sites have in common, once the sites are known; nullptr: none.
  virtual std::shared_ptr<MethodTensors> make_shared(const std::vector<SiteRequest>&, bool) const { return nullptr; }
  // The parts' r and scale are LoRA's of config.r, lora_alpha and the patterns: `read` puts the method's r and alpha there.
  virtual std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig& config) const = 0;
  virtual void start_shared(MethodTensors&, uint64_t) const {}  // first values of a new adapter; sites have Adapter::initialise
  // The method's own keys of adapter_config.json, in PEFT's words.
  virtual void write_keys(nlohmann::json& json, const LoraConfig& config) const = 0;
  virtual std::string words() const = 0;  // for people: "OFT, blocks of 32"
  const PeftMethodKind* kind = nullptr;   // its line in the list
};

struct PeftMethodKind {
  const char* peft_type;  // of adapter_config.json, "IA3"
  const char* setting;    // of the settings (finetuning_type), "ia3"
  const char* tensors;    // how the names of its tensors go on behind the module's, ".ia3_"
  const char* bias_word;  // of PEFT's `bias` for the adapted modules alone, "oft_only"; nullptr: the method has no key `bias`
  bool chooses_layers;    // it has layers_to_transform and layers_pattern
  bool has_patterns;      // it has rank_pattern and alpha_pattern
  bool trains;            // false: it is run and merged, and training is refused by name
  // Reads the method's own keys; config.r, lora_alpha, lora_dropout are to be set where the method has such.
  std::shared_ptr<PeftMethod> (*read)(MethodKeys& keys, LoraConfig& config);
  bool excludes = true;  // it has exclude_modules
};

const std::vector<PeftMethodKind>& peft_methods();
// By adapter_config.json's peft_type, or by finetuning_type; nullptr: none of that name.
const PeftMethodKind* find_peft_type(const std::string& peft_type);
const PeftMethodKind* find_peft_setting(const std::string& finetuning_type);
std::string peft_type_names();  // of the list, with commas between them

// config.method, rank and scale out of adapter_config.json; known: the method's own keys.
void read_peft_method(const PeftMethodKind& kind, const nlohmann::ordered_json& json, const std::string& file, LoraConfig& config,
                      std::vector<std::string>& known);
// config.method out of the settings of a run: `json` an object of PEFT's words for the method's keys. usage for other words.
void set_peft_method(const PeftMethodKind& kind, const nlohmann::ordered_json& json, const std::string& where, LoraConfig& config);
// adapter_config.json of a config with a method.
nlohmann::ordered_json peft_method_config(const LoraConfig& config);

}  // namespace loraine
