// Tensor by tensor: mapped as it is, or merged; then shard by shard to disk; then read back and compared.
#include "loraine/export/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/core/error.h"
#include "loraine/io/durable_file.h"
#include "loraine/io/safetensors.h"
#include "loraine/model/decoder.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

struct Target {
  const Adapter* adapter;
  int part;
};

// Where each Hugging Face weight name gets something added.
std::map<std::string, Target> merge_targets(const Model& model, const AdapterSet* adapter) {
  std::map<std::string, Target> targets;
  if (!adapter) return targets;
  std::vector<const Weight*> sites = model.sites();
  for (size_t s = 0; s < sites.size(); ++s)
    if (const Adapter* at = adapter->sites[s].get())
      for (size_t p = 0; p < sites[s]->parts.size(); ++p) targets[sites[s]->parts[p].name + ".weight"] = {at, static_cast<int>(p)};
  return targets;
}

Tensor merged_tensor(const TensorSource& source, const TensorInfo& info, const Target* target, Buffer& memory) {
  Tensor mapped = source.map(info);
  if (!target && mapped.data) return mapped;
  Tensor shape(nullptr, info.dtype, info.shape);
  memory = Buffer(shape.bytes());
  Tensor out(memory.data(), info.dtype, info.shape);
  if (!target) {
    source.read(info, out);
    return out;
  }
  Buffer f32_memory(static_cast<size_t>(shape.numel()) * sizeof(float));
  Tensor f32(f32_memory.data(), Dtype::F32, info.shape);
  source.read(info, f32);
  Context ctx;
  target->adapter->merge_into(ctx, f32, target->part);
  convert(out.data, out.dtype, f32.data, Dtype::F32, f32.numel());
  return out;
}

void write_configs(const ModelFiles& files, const std::string& folder) {
  write_file(folder + "/config.json", files.config.dump(2) + "\n");
  if (files.generation_config) write_file(folder + "/generation_config.json", files.generation_config->dump(2) + "\n");
  if (files.tokenizer_json) write_file(folder + "/tokenizer.json", *files.tokenizer_json);
  if (files.tokenizer_config) {
    Json config = *files.tokenizer_config;
    if (files.chat_template) config.erase("chat_template");
    write_file(folder + "/tokenizer_config.json", config.dump(2) + "\n");
  }
  if (files.chat_template) write_file(folder + "/chat_template.jinja", *files.chat_template);
}

}  // namespace

MergeReport merge_to_folder(const Model& model, const ModelFiles& files, const AdapterSet* adapter, const std::string& folder,
                            int64_t shard_bytes) {
  const TensorSource& source = *model.source;
  std::map<std::string, Target> targets = merge_targets(model, adapter);
  std::vector<std::vector<const TensorInfo*>> shards(1);
  int64_t in_shard = 0, total = 0;
  MergeReport report;
  for (const TensorInfo& info : source.tensors()) {
    if (model.config.tie_word_embeddings && info.name == "lm_head.weight") continue;
    int64_t bytes = static_cast<int64_t>(Tensor(nullptr, info.dtype, info.shape).bytes());
    if (in_shard > 0 && in_shard + bytes > shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(&info);
    in_shard += bytes;
    total += bytes;
  }
  make_folders(folder);
  Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  for (size_t s = 0; s < shards.size(); ++s) {
    std::string name = shards.size() == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    std::vector<Buffer> memory(shards[s].size());
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (size_t i = 0; i < shards[s].size(); ++i) {
      const TensorInfo& info = *shards[s][i];
      auto target = targets.find(info.name);
      if (target != targets.end()) ++report.merged;
      tensors.emplace_back(info.name, merged_tensor(source, info, target == targets.end() ? nullptr : &target->second, memory[i]));
      index["weight_map"][info.name] = name;
      ++report.tensors;
    }
    write_safetensors(folder + "/" + name, tensors, {{"format", "pt"}});
  }
  report.shards = static_cast<int64_t>(shards.size());
  if (shards.size() > 1) write_file(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
  write_configs(files, folder);
  return report;
}

void check_merge(const Model& model, const AdapterSet* adapter, const std::string& folder, MergeReport& report) {
  ModelFiles files = open_model_files(folder);
  Model merged = load_model(files, model.use_bf16);
  constexpr int64_t kRows = 24;
  Batch batch;
  for (int64_t t = 0; t < kRows; ++t) {
    batch.tokens.push_back(static_cast<int32_t>((t * 7919 + 3) % model.config.vocab_size));
    batch.positions.push_back(static_cast<int32_t>(t % 12));
  }
  batch.sequences = {{0, 12, 0, 12}, {12, 12, 12, 12}};
  auto logits = [&](const Model& m, const AdapterSet* set, Buffer& memory) {
    std::vector<const AdapterSet*> sets;
    Batch b = batch;
    if (set) {
      sets = {set};
      b.adapter_rows = {{0, kRows, 0}};
    }
    Arena dry;
    plan_activations(m.config, kRows, false, sets, dry);
    Arena arena(dry.peak()), scratch(scratch_bytes(m, kRows, false, sets));
    Activations activations = plan_activations(m.config, kRows, false, sets, arena);
    Pass pass{&activations, nullptr, sets, &scratch, false};
    Context ctx;
    decoder_forward(ctx, m, b, pass);
    memory = Buffer(static_cast<size_t>(kRows * m.config.vocab_size) * sizeof(float));
    Tensor out(memory.data(), Dtype::F32, {kRows, m.config.vocab_size});
    head_logits(ctx, m, out, activations.hidden);
    return out;
  };
  Buffer a_memory, b_memory;
  Tensor a = logits(model, adapter, a_memory), b = logits(merged, nullptr, b_memory);
  for (int64_t i = 0; i < a.numel(); ++i) {
    double difference = std::abs(static_cast<double>(a.f32()[i]) - static_cast<double>(b.f32()[i]));
    report.largest_difference = std::isfinite(difference) ? std::max(report.largest_difference, difference) : INFINITY;
    report.largest_logit = std::max(report.largest_logit, std::abs(static_cast<double>(a.f32()[i])));
  }
}

}  // namespace loraine
