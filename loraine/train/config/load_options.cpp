// quantization_bit and its kin to what quant/quantise makes.
#include "loraine/train/config/load_options.h"

#include <fmt/format.h>

#include "loraine/core/error.h"
#include "loraine/core/grouped_codes.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/named_adapters.h"

namespace loraine {

LoadOptions load_options(const TrainConfig& c) {
  LoadOptions options{c.bf16};
  if (!c.quantization_bit) return options;
  if (c.quantization_method == "hqq") {
    options.quantisation = Quantisation{codes_of_bits(*c.quantization_bit), false, false, c.hqq_group_size, c.hqq_axis};
    options.quantisation->scales = c.bf16 ? Dtype::BF16 : Dtype::F32;
  } else if (*c.quantization_bit == 8) {
    options.quantisation = {Dtype::INT8, false};
  } else {
    options.quantisation = {c.quantization_type == "fp4" ? Dtype::FP4 : Dtype::NF4, c.double_quantization};
  }
  return options;
}

LoadOptions answer_load_options(const TrainConfig& c) {
  LoadOptions options = load_options(c);
  if (c.infer_dtype != "auto") options.bf16 = c.infer_dtype == "bfloat16";
  if (options.quantisation) options.quantisation->scales = options.bf16 ? Dtype::BF16 : Dtype::F32;
  return options;
}

std::string not_computed_in(const TrainConfig& c) {
  return c.infer_dtype == "float16" ? "infer_dtype: float16 is computed in float32, which is exacter; bfloat16 takes half the memory" : "";
}

Recompute least_recompute(const TrainConfig& c, const Model& model) {
  if (c.gradient_checkpointing == "true") return Recompute::block;
  if (c.gradient_checkpointing == "mlp") return Recompute::mlp;
  if (c.gradient_checkpointing == "false") return Recompute::none;
  const Weight& first = *model.sites().front();
  return has_quant_state(first.parts.front().weight.dtype) && c.frozen_matmul != "int8" ? Recompute::mlp : Recompute::none;
}

std::vector<FoundPlace> adapter_places(const TrainConfig& c, const std::string& several) {
  std::vector<FoundPlace> places;
  for (const std::string& name : joined_adapters(c.adapter_name_or_path, several))
    places.push_back(find_place(name, hub_access(c), HubKind::adapter));
  return places;
}

std::string quantised_already(const ModelFiles& files, const TrainConfig& c) {
  if (!c.quantization_bit) return "";
  for (const TensorInfo& info : files.tensors->tensors())
    if (info.packed && info.shape.size() == 2)
      return fmt::format("{}: its weights are stored as {}, so quantization_bit has no effect", files.path, info.stored_as);
  return "";
}

std::string stretch_positions(ModelFiles& files, const TrainConfig& c, bool training) {
  if (!c.rope_scaling) return "";
  Json& config = files.config;
  if (!config.contains("max_position_embeddings") || !config["max_position_embeddings"].is_number_integer())
    throw Error(ErrorKind::bad_data, files.path + ": config.json has no max_position_embeddings, and rope_scaling stretches them",
                "leave rope_scaling out");
  const int64_t longest = config["max_position_embeddings"].get<int64_t>();
  if (training && c.cutoff_len <= longest)
    return fmt::format("rope_scaling has no effect: cutoff_len {} is within the model's own {} positions", c.cutoff_len, longest);
  const char* key = config.contains("rope_parameters") && config["rope_parameters"].is_object() ? "rope_parameters" : "rope_scaling";
  Json& rope = config[key];
  if (!rope.is_object()) rope = Json::object();
  for (const char* name : {"rope_type", "type"})
    if (rope.contains(name) && rope[name] != "default")
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: config.json has a scaling of positions already ({})", files.path, rope[name].dump()),
                  "leave rope_scaling out");
  const int64_t factor = training ? (c.cutoff_len + longest - 1) / longest : 2;
  rope["rope_type"] = *c.rope_scaling;
  rope["factor"] = static_cast<double>(factor);
  if (*c.rope_scaling != "linear") rope["original_max_position_embeddings"] = longest;
  if (*c.rope_scaling == "llama3") {
    rope["low_freq_factor"] = 1.0;
    rope["high_freq_factor"] = 4.0;
  }
  config["max_position_embeddings"] = longest * factor;
  return fmt::format("rope_scaling {}: positions up to {} in the place of {}, factor {}", *c.rope_scaling, longest * factor, longest,
                     factor);
}

}  // namespace loraine
