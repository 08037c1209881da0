// The table of methods.
#include "loraine/io/quantised/quantised_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/quantised/bitsandbytes_source.h"
#include "loraine/io/quantised/formats.h"
#include "loraine/io/quantised/grouped_source.h"
#include "loraine/io/quantised/mxfp4_source.h"

namespace loraine {
namespace {

using FindWeights = std::vector<GroupedWeight> (*)(const QuantisedFolder&);

struct Method {
  const char* name;  // quant_method
  FindWeights find;  // nullptr: tensors say all (bitsandbytes_source, mxfp4_source)
};
constexpr Method kMethods[] = {{"gptq", gptq_weights},    {"awq", awq_weights}, {"hqq", hqq_weights},
                               {"aqlm", aqlm_weights},    {"fp8", fp8_weights}, {"compressed-tensors", compressed_tensors_weights},
                               {"bitsandbytes", nullptr}, {"mxfp4", nullptr}};

const Method& method_of(const QuantisedFolder& folder) {
  const std::string name = folder.text({"quant_method"}, folder.config.contains("config_groups") ? "compressed-tensors" : "bitsandbytes");
  for (const Method& method : kMethods)
    if (name == method.name) return method;
  std::string known;
  for (const Method& method : kMethods) known += (known.empty() ? "" : ", ") + std::string(method.name);
  folder.refuse("has the quant_method " + in_quotes(name) + ", and these are read: " + known,
                "use the model in one of these forms, or in full with quantization_bit");
}

// The object, where there is one: in config.json, in its text model's part, or in AutoGPTQ's own file.
std::unique_ptr<QuantisedFolder> quantised_folder(std::shared_ptr<TensorSource> source, const Json& config, const std::string& folder) {
  for (const Json* place : {&config, config.contains("text_config") ? &config["text_config"] : nullptr})
    for (const char* key : {"quantization_config", "compression_config"})
      if (place && place->is_object() && place->contains(key) && (*place)[key].is_object())
        return std::make_unique<QuantisedFolder>(source, (*place)[key], folder + "/config.json");
  const std::string own = folder + "/quantize_config.json";
  if (std::error_code none; !std::filesystem::exists(own, none)) return nullptr;
  Json written = parse_json_file(own);
  if (!written.is_object() || !written.contains("bits")) return nullptr;
  if (!written.contains("quant_method")) written["quant_method"] = "gptq";
  return std::make_unique<QuantisedFolder>(source, written, own);
}

// A module that is to be left as it is, and is not.
void check_left_as_they_are(const QuantisedFolder& folder, const std::vector<GroupedWeight>& weights) {
  for (const char* key : {"modules_to_not_convert", "ignored_layers", "ignore", "skip_modules"}) {
    const auto list = folder.config.find(key);
    if (list == folder.config.end() || !list->is_array()) continue;
    for (const Json& entry : *list) {
      if (!entry.is_string() || entry.get_ref<const std::string&>().empty()) continue;
      const std::string name = entry.get<std::string>();
      for (const GroupedWeight& weight : weights) {
        const std::string module = weight.name.substr(0, weight.name.rfind('.'));
        if (module == name || module.starts_with(name + ".") || module.ends_with("." + name))
          folder.refuse(fmt::format("lists {} under {}, and {} is stored quantised", in_quotes(name), key, weight.name),
                        "is config.json of this model?");
      }
    }
  }
}

}  // namespace

std::shared_ptr<TensorSource> with_quantised(std::unique_ptr<TensorSource> source, const Json& config, const std::string& folder) {
  std::shared_ptr<TensorSource> stored = with_mxfp4(with_bitsandbytes(std::move(source)));
  std::shared_ptr<QuantisedFolder> quantised = quantised_folder(stored, config, folder);
  const FindWeights find = quantised ? method_of(*quantised).find : nullptr;
  if (!find) return stored;
  std::vector<GroupedWeight> weights = find(*quantised);
  check_left_as_they_are(*quantised, weights);
  return grouped_source(std::move(quantised), std::move(weights));
}

}  // namespace loraine
