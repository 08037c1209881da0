// See write_low_rank.h.
#include "loraine/adapters/stored/write_low_rank.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <list>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine {
namespace {

// scale · r, whole where it is but for the rounding of a scale in f32.
double alpha_of(const LowRankModule& module) {
  const double alpha = module.scale * static_cast<double>(module.r), whole = std::nearbyint(alpha);
  return std::abs(alpha - whole) <= 1e-6 * std::abs(alpha) ? whole : alpha;
}

// The values in `dtype`; memory holds them where it is another than theirs.
Tensor low_rank_tensor(const std::vector<float>& values, int64_t rows, int64_t cols, Dtype dtype, std::list<Buffer>& memory) {
  if (dtype == Dtype::F32) return {const_cast<float*>(values.data()), Dtype::F32, {rows, cols}};
  memory.emplace_back(values.size() * size_of(dtype));
  convert(memory.back().data(), dtype, values.data(), Dtype::F32, static_cast<int64_t>(values.size()));
  const Tensor narrow(memory.back().data(), dtype, {rows, cols});
  std::vector<float> back(values.size());
  convert(back.data(), Dtype::F32, narrow.data, dtype, static_cast<int64_t>(values.size()));
  if (!std::all_of(back.begin(), back.end(), [](float x) { return std::isfinite(x); }))
    throw Error(ErrorKind::numeric, fmt::format("a value of the adapter is too large for {}", name_of(dtype)), "write it in float32");
  return narrow;
}

std::string card_of(const WrittenLowRank& written) {
  std::string text = "---\n";
  if (!written.base.empty()) text += "base_model: " + nlohmann::json(written.base).dump() + "\n";
  return text + "library_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n---\n\n" + written.story + "\n";
}

}  // namespace

LoraConfig config_for(const WrittenLowRank& written) {
  LoraConfig config;
  config.base_model_name_or_path = written.base;
  config.modules_to_save = written.modules_to_save;
  if (written.like) {
    config.use_dora = written.like->use_dora;
    config.lora_bias = written.like->lora_bias;
    config.bias = written.like->bias;
    config.modules_to_save = written.like->modules_to_save;
    config.trainable_tokens = written.like->trainable_tokens;
    config.alora_invocation_tokens = written.like->alora_invocation_tokens;
    config.ensure_weight_tying = written.like->ensure_weight_tying;
  }
  const LowRankModule* first = nullptr;
  for (const LowRankModule& module : written.modules)
    if (!first || module.r > first->r) first = &module;
  if (!first || first->r < 1) throw Error(ErrorKind::bad_data, "nothing is left of the adapter: no module has a rank above 0");
  config.r = first->r;
  config.lora_alpha = alpha_of(*first);
  for (const LowRankModule& module : written.modules) {
    if (module.r == 0) continue;
    if (written.targets.empty()) config.target_modules.push_back(module.path);
    if (module.r != config.r) config.rank_pattern.emplace_back(module.path, module.r);
    if (const double alpha = alpha_of(module); alpha != config.lora_alpha) config.alpha_pattern.emplace_back(module.path, alpha);
  }
  if (!written.targets.empty()) config.target_modules = written.targets;
  return config;
}

void check_free(const std::string& folder, bool overwrite) {
  if (folder.empty()) throw Error(ErrorKind::usage, "output_dir is not given", "give the folder to write: --output_dir DIR");
  std::error_code failed;
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors", "config.json"})
    if (!overwrite && std::filesystem::exists(std::filesystem::path(folder) / file, failed))
      throw Error(ErrorKind::usage, fmt::format("{}: holds {} already", folder, file),
                  "choose another output_dir, or add --overwrite_output_dir");
}

void write_low_rank(const WrittenLowRank& written, const std::string& folder, bool overwrite) {
  check_free(folder, overwrite);
  const LoraConfig config = config_for(written);
  std::vector<std::pair<std::string, Tensor>> tensors = written.whole;
  std::list<Buffer> memory;
  for (const LowRankModule& module : written.modules) {
    if (module.r == 0) continue;
    const std::string prefix = "base_model.model." + module.path + (module.embedding ? ".lora_embedding_" : ".lora_");
    const char* end = module.embedding ? "" : ".weight";
    tensors.emplace_back(prefix + "A" + end, low_rank_tensor(module.a, module.r, module.in, written.dtype, memory));
    tensors.emplace_back(prefix + "B" + end, low_rank_tensor(module.b, module.out, module.r, written.dtype, memory));
  }
  StagedFiles staged(folder);
  write_safetensors(staged.path() + "/adapter_model.safetensors", tensors, {{"format", "pt"}});
  write_file(staged.path() + "/adapter_config.json", peft_config(config).dump(2));
  write_file(staged.path() + "/README.md", card_of(written));
  staged.commit();
}

void pad_rank(LowRankModule& module, int64_t r) {
  if (module.r >= r) return;
  module.a.resize(static_cast<size_t>(r * module.in), 0.0f);
  std::vector<float> b(static_cast<size_t>(module.out * r), 0.0f);
  for (int64_t o = 0; o < module.out; ++o) std::copy_n(module.b.data() + o * module.r, module.r, b.data() + o * r);
  module.b = std::move(b);
  module.r = r;
}

}  // namespace loraine
