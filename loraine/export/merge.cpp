// Tensor by tensor: mapped as it is, or merged; streamed shard by shard to disk; then read back and compared.
#include "loraine/export/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/core/error.h"
#include "loraine/io/durable_file.h"
#include "loraine/io/mapped_file.h"
#include "loraine/io/safetensors_layout.h"
#include "loraine/io/torch_file.h"
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
      for (size_t p = 0; p < sites[s]->parts.size(); ++p)
        if (at->adapts(static_cast<int>(p))) targets[sites[s]->parts[p].name + ".weight"] = {at, static_cast<int>(p)};
  return targets;
}

// One tensor as it is to be written. Memory: the tensor in f32 and in its stored type, at most; one that stays as it is goes by in pieces.
void write_merged(const TensorSource& source, const TensorInfo& info, const Target* target, const WriteBytes& write) {
  Tensor mapped = source.map(info);
  if (!target && mapped.data) {
    constexpr size_t kPiece = 64u << 20;
    const char* data = static_cast<const char*>(mapped.data);
    for (size_t at = 0; at < mapped.bytes(); at += kPiece) {
      const size_t bytes = std::min(kPiece, mapped.bytes() - at);
      write(data + at, bytes);
      release_pages(data + at, bytes);
    }
    return;
  }
  Tensor shape(nullptr, info.dtype, info.shape);
  Buffer memory(shape.bytes());
  Tensor out(memory.data(), info.dtype, info.shape);
  if (target) {
    const bool f32_stored = info.dtype == Dtype::F32;
    Buffer f32_memory(f32_stored ? 0 : static_cast<size_t>(shape.numel()) * sizeof(float));
    Tensor f32(f32_stored ? out.data : f32_memory.data(), Dtype::F32, info.shape);
    source.read(info, f32);
    if (mapped.data) release_pages(mapped.data, mapped.bytes());
    Context ctx;
    target->adapter->merge_into(ctx, f32, target->part);
    if (!f32_stored) convert(out.data, out.dtype, f32.data, Dtype::F32, f32.numel());
  } else {
    source.read(info, out);
  }
  write(out.data, out.bytes());
}

}  // namespace

MergeReport merge_to_folder(const Model& model, const AdapterSet* adapter, const std::string& folder, const MergeFormat& format) {
  const TensorSource& source = *model.source;
  std::map<std::string, Target> targets = merge_targets(model, adapter);
  std::vector<std::vector<const TensorInfo*>> shards(1);
  int64_t in_shard = 0, total = 0, parameters = 0;
  MergeReport report;
  for (const TensorInfo& info : source.tensors()) {
    if (model.config.tie_word_embeddings && info.name == "lm_head.weight") continue;
    const Tensor shape(nullptr, info.dtype, info.shape);
    int64_t bytes = static_cast<int64_t>(shape.bytes());
    if (in_shard > 0 && in_shard + bytes > format.shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(&info);
    in_shard += bytes;
    total += bytes;
    parameters += shape.numel();
  }
  make_folders(folder);
  Json index = {{"metadata", {{"total_parameters", parameters}, {"total_size", total}}}, {"weight_map", Json::object()}};
  const std::string stem = format.legacy ? "pytorch_model" : "model", extension = format.legacy ? ".bin" : ".safetensors";
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string place = shards.size() == 1 ? "" : fmt::format("-{:05}-of-{:05}", s + 1, shards.size());
    const std::string name = stem + place + extension;
    std::vector<SafetensorsEntry> entries;
    for (const TensorInfo* info : shards[s]) {
      entries.push_back({info->name, info->dtype, info->shape});
      index["weight_map"][info->name] = name;
    }
    const auto produce = [&](size_t i, const WriteBytes& write) {
      auto target = targets.find(entries[i].name);
      if (target != targets.end()) ++report.merged;
      ++report.tensors;
      write_merged(source, *shards[s][i], target == targets.end() ? nullptr : &target->second, write);
      check_mapped_files();
    };
    if (format.legacy) stream_torch_file(folder + "/" + name, entries, produce);
    else stream_safetensors(folder + "/" + name, entries, {{"format", "pt"}}, produce);
  }
  report.shards = static_cast<int64_t>(shards.size());
  if (shards.size() > 1) write_file(folder + "/" + stem + extension + ".index.json", index.dump(2) + "\n");
  return report;
}

void check_merge(const Model& model, const AdapterSet* adapter, const std::string& folder, MergeReport& report) {
  ModelFiles files = open_model_files(folder);
  Model merged = load_model(files, model.use_bf16);
  merged.read_once = true;
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
    plan_activations(m, kRows, false, sets, dry);
    Arena arena(dry.peak()), scratch(scratch_bytes(m, kRows, false, sets));
    Activations activations = plan_activations(m, kRows, false, sets, arena);
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
  check_mapped_files();
  for (int64_t i = 0; i < a.numel(); ++i) {
    double difference = std::abs(static_cast<double>(a.f32()[i]) - static_cast<double>(b.f32()[i]));
    report.largest_difference = std::isfinite(difference) ? std::max(report.largest_difference, difference) : INFINITY;
    report.largest_logit = std::max(report.largest_logit, std::abs(static_cast<double>(a.f32()[i])));
  }
}

}  // namespace loraine
