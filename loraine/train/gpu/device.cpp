// The setting `device` against the settings, the model and the machine.
#include "loraine/train/gpu/device.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/core/gpu.h"
#include "loraine/kernels/cuda/gemm.h"
#include "loraine/model/gpu/gpu_packed.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {
namespace {

constexpr const char* kOnTheCpu = "Run it on the CPU (device: cpu); docs/cuda.md says what the GPU has kernels for.";

// Of the model's config.json and files.
std::string model_without_gpu(const ModelFiles& files) {
  for (const TensorInfo& info : files.tensors->tensors())
    if (info.packed && !gpu_unpacks(*info.packed) && info.shape.size() == 2)
      return fmt::format("weights stored as {}", name_of(*info.packed));
  const ModelConfig config = model_config(files.config, files.path + "/config.json");
  const std::string lacks = gpu_lacks(config);
  return lacks.empty() ? "" : fmt::format("model_type {}: {}", config.model_type, lacks);
}

}  // namespace

std::string settings_without_gpu(const TrainConfig& c) {
  if (c.stage == "grpo" || c.stage == "decision") return "stage: " + c.stage;
  if (c.finetuning_type != "lora") return "finetuning_type: " + c.finetuning_type;
  if (c.frozen_matmul != "exact") return "frozen_matmul: " + c.frozen_matmul;
  for (const char* start : {"eva", "corda", "lora_ga"})
    if (c.init_lora_weights == start) return fmt::format("init_lora_weights: {}", start);
  if (c.bias != "none") return "bias: " + c.bias;
  if (!split_list(c.additional_target).empty()) return "additional_target: " + *c.additional_target;
  for (const std::string& name : split_list(c.lora_target))
    if (name == "lm_head" || name == "embed_tokens" || name.starts_with("experts")) return "lora_target: " + name;
  const std::pair<const char*, bool> switches[] = {{"use_adalora", c.use_adalora},
                                                   {"use_lorafa", c.use_lorafa},
                                                   {"lora_bias", c.lora_bias},
                                                   {"trainable_token_indices", c.trainable_token_indices.has_value()},
                                                   {"alora_invocation_tokens", c.alora_invocation_tokens.has_value()},
                                                   {"use_eaft_loss", c.use_eaft_loss},
                                                   {"use_asft_loss", c.use_asft_loss},
                                                   {"optim_args", c.optim_args.has_value()},
                                                   {"use_galore", c.use_galore},
                                                   {"use_apollo", c.use_apollo},
                                                   {"use_badam", c.use_badam},
                                                   {"use_adam_mini", c.use_adam_mini},
                                                   {"use_muon", c.use_muon},
                                                   {"bf16_full_eval", c.bf16_full_eval && !c.bf16},
                                                   {"resize_vocab", c.resize_vocab},
                                                   {"add_tokens", c.add_tokens.has_value()},
                                                   {"add_special_tokens", c.add_special_tokens.has_value()},
                                                   {"new_special_tokens_config", c.new_special_tokens_config.has_value()}};
  for (const auto& [key, given] : switches)
    if (given) return key;
  if (optimizer_form(c.optim) != "adamw_torch") return "optim: " + c.optim;
  if (c.share_prefixes == "true") return "share_prefixes: true";
  return "";
}

std::string answers_without_gpu(const TrainConfig& c) {
  if (c.frozen_matmul != "exact") return "frozen_matmul: " + c.frozen_matmul;
  if (c.use_eaft_loss) return "use_eaft_loss";
  return c.use_asft_loss ? "use_asft_loss" : "";
}

namespace {

DeviceChoice device_for(const TrainConfig& c, const ModelFiles& files, std::string lacks) {
  if (c.device == "cpu") return {};
  const bool asked = c.device == "cuda";
  if (lacks.empty()) lacks = model_without_gpu(files);
  if (asked && !lacks.empty()) throw Error(ErrorKind::unsupported, "device: cuda: " + lacks + " has no GPU code", kOnTheCpu);
  GpuCard card;
  try {
    card = open_gpu();
    const Gemm products;  // whether the library is there
  } catch (const Error& error) {
    if (asked || error.kind != ErrorKind::unsupported) throw;
    return {Device::cpu, card.name.empty() ? "" : fmt::format("device: the CPU, though there is a {}; {}", card.name, error.what())};
  }
  if (!asked && card.emulated) return {};
  if (!lacks.empty()) return {Device::cpu, fmt::format("device: the CPU, since {} has no GPU code; there is a {}", lacks, card.name)};
  return {Device::cuda, fmt::format("device: {}", card.name)};
}

}  // namespace

DeviceChoice choose_device(const TrainConfig& c, const ModelFiles& files) { return device_for(c, files, settings_without_gpu(c)); }

DeviceChoice choose_device_of_answers(const TrainConfig& c, const ModelFiles& files) {
  return device_for(c, files, answers_without_gpu(c));
}

}  // namespace loraine
