// See compressed_scheme.h.
#include "loraine/io/quantised/compressed_scheme.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <regex>

#include "loraine/core/lower_case.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr const char* kCopy = "use a copy of the model that was quantised otherwise, or in full";
constexpr std::string_view kExpression = "re:";
constexpr size_t kLongestExpression = 512;

int64_t scheme_number(const QuantisedFolder& folder, const Json& weights, const char* key) {
  const Json value = weights.value(key, Json());
  if (!value.is_number_integer() || value < 1 || value > kLargestSize)
    folder.refuse(fmt::format("has a group of weights whose {} is {}, expected a number", key, value.dump()), "is the file complete?");
  return value.get<int64_t>();
}

void read_block(const QuantisedFolder& folder, const Json& structure, CompressedScheme& scheme) {
  if (structure.is_array() && structure.size() == 2 && structure[0].is_number_integer() && structure[1].is_number_integer()) {
    scheme.block_rows = structure[0].get<int64_t>(), scheme.block_cols = structure[1].get<int64_t>();
  } else if (structure.is_string()) {  // "128x128"
    const std::string text = structure.get<std::string>();
    const size_t cross = text.find('x');
    if (cross != text.npos) {
      std::from_chars(text.data(), text.data() + cross, scheme.block_rows);
      std::from_chars(text.data() + cross + 1, text.data() + text.size(), scheme.block_cols);
    }
  }
  if (scheme.block_rows < 1 || scheme.block_cols < 1 || scheme.block_rows > kLargestSize || scheme.block_cols > kLargestSize)
    folder.refuse(fmt::format("has the block_structure {}, expected two numbers", structure.dump()), "is the file complete?");
}

CompressedScheme read_scheme(const QuantisedFolder& folder, const Json& group) {
  CompressedScheme scheme;
  if (const Json targets = group.value("targets", Json()); targets.is_array())
    for (const Json& target : targets)
      if (target.is_string()) scheme.targets.push_back(target.get<std::string>());
  const Json& weights = group["weights"];
  scheme.rounds_activations = group.value("input_activations", Json()).is_object();
  scheme.bits = scheme_number(folder, weights, "num_bits");
  const std::string type = lower_case(weights.value("type", "int"));
  if (type != "int" && type != "float") folder.refuse("has weights of type " + in_quotes(type) + ", expected int or float", kCopy);
  scheme.is_float = type == "float";
  scheme.symmetric = weights.value("symmetric", Json(true)) != false;
  const Json size = weights.value("group_size", Json()), strategy = weights.value("strategy", Json());
  const bool has_groups = size.is_number_integer() && size.get<int64_t>() > 0;
  scheme.strategy = strategy.is_string() ? lower_case(strategy.get<std::string>())
                    : has_groups         ? "group"
                    : size == -1         ? "channel"
                                         : "tensor";
  if (scheme.strategy == "group" || scheme.strategy == "tensor_group") scheme.group_size = scheme_number(folder, weights, "group_size");
  else if (scheme.strategy == "block") read_block(folder, weights.value("block_structure", Json()), scheme);
  else if (scheme.strategy != "tensor" && scheme.strategy != "channel")
    folder.refuse("has weights with the strategy " + in_quotes(scheme.strategy) + ", which is not read", kCopy);
  return scheme;
}

bool matches(const QuantisedFolder& folder, const std::string& expression, const std::string& module) {
  if (expression.size() > kLongestExpression) folder.refuse("has the target " + in_quotes(expression) + ", which is too long", kCopy);
  try {
    return std::regex_search(module, std::regex(expression), std::regex_constants::match_continuous);
  } catch (const std::regex_error&) {
    folder.refuse("has the target " + in_quotes(expression) + ", which is an expression that is not read",
                  "write it without Python's own signs");
  }
}

}  // namespace

CompressedSchemes::CompressedSchemes(const QuantisedFolder& folder) : folder_(folder) {
  static constexpr const char* kFormats[] = {"pack-quantized",  "int-quantized",        "float-quantized",
                                             "naive-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized",
                                             "mxfp8-quantized", "mixed-precision",      "dense"};
  const auto check_format = [&](const std::string& format) {
    if (std::ranges::none_of(kFormats, [&](const char* known) { return format == known; }))
      folder.refuse(fmt::format("has the format {}, and these are read: {}", in_quotes(format), fmt::join(kFormats, ", ")), kCopy);
  };
  check_format(folder.text({"format"}, "dense"));
  if (const std::string status = folder.text({"quantization_status"}, "compressed"); status != "compressed")
    folder.refuse("has the quantization_status " + in_quotes(status) + ", and only compressed is read", "compress the model first");
  const Json sparsity = folder.config.value("sparsity_config", Json());
  if (sparsity.is_object() && !sparsity.empty() && lower_case(sparsity.value("format", "dense")) != "dense")
    folder.refuse("has sparse weights, which are not read", kCopy);
  const Json transforms = folder.config.value("transform_config", Json());
  if (transforms.is_object() && transforms.value("config_groups", Json()).is_object() && !transforms["config_groups"].empty())
    folder.refuse("turns activations while the model runs (transform_config), which is not done here", kCopy);
  const Json groups = folder.config.value("config_groups", Json());
  if (!groups.is_object()) folder.refuse("has no config_groups", "is the file complete?");
  for (const auto& [name, group] : groups.items()) {
    if (!group.is_object() || !group.value("weights", Json()).is_object()) continue;  // of activations alone
    if (const Json format = group.value("format", Json()); format.is_string()) check_format(lower_case(format.get<std::string>()));
    all_.push_back(read_scheme(folder, group));
  }
}

const CompressedScheme& CompressedSchemes::of(const TensorInfo& info, const std::string& module) const {
  if (all_.size() == 1) return all_.front();
  const auto targeted = [&](auto&& holds) -> const CompressedScheme* {
    for (const CompressedScheme& scheme : all_)
      if (std::ranges::any_of(scheme.targets, holds)) return &scheme;
    return nullptr;
  };
  if (const auto* found = targeted([&](const std::string& target) { return target == module; })) return *found;
  if (const auto* found = targeted([&](const std::string& target) {
        return target.starts_with(kExpression) && matches(folder_, target.substr(kExpression.size()), module);
      }))
    return *found;
  if (const auto* found = targeted([&](const std::string& target) { return target == "Linear"; })) return *found;
  folder_.bad(info, "is quantised, and config_groups has no group for it");
}

}  // namespace loraine
