// Tensor by tensor: as it is, or merged; then read back and compared.
#include "loraine/export/merge.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/core/stopped.h"
#include "loraine/export/quantised.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

// What becomes of one Hugging Face tensor: a whole one in its place, then what is added.
struct Target {
  Tensor dense;  // data == nullptr: the base's own
  const Adapter* adapter = nullptr;
  int part = 0;
  const EmbeddingLora* embedding = nullptr;
};

std::map<std::string, Target> merge_targets(const Model& model, const AdapterSet* adapter) {
  std::map<std::string, Target> targets;
  const std::vector<const Weight*> sites = model.sites();
  for (const Weight* site : sites)
    for (const WeightPart& part : site->parts)
      if (part.changed && !part.quant_state) targets[part.name + ".weight"].dense = part.weight;
  if (!adapter) return targets;
  if (adapter->dense)
    for (size_t i = 0; i < adapter->dense->parameters.size(); ++i)
      targets[adapter->dense->base_name[i]].dense = adapter->dense->parameters[i].value;
  for (size_t s = 0; s < adapter->sites.size(); ++s)
    if (const Adapter* at = adapter->sites[s].get())
      for (size_t p = 0; p < sites[s]->parts.size(); ++p) {
        if (!at->adapts(static_cast<int>(p))) continue;
        Target& target = targets[sites[s]->parts[p].name + ".weight"];
        target.adapter = at;
        target.part = static_cast<int>(p);
      }
  if (adapter->embedding) targets[adapter->embedding->name() + ".weight"].embedding = adapter->embedding.get();
  return targets;
}

bool holds_floats(Dtype type) { return type == Dtype::F32 || type == Dtype::F16 || type == Dtype::BF16; }

// Memory: the tensor in f32 and in the type that is written, at most.
void write_merged(const TensorSource& source, const TensorInfo& info, const Target& target, Dtype type, const WriteBytes& write) {
  const Tensor shape(nullptr, type, info.shape);
  const Buffer memory(shape.bytes());
  const Tensor out(memory.data(), type, info.shape);
  const bool f32_written = type == Dtype::F32;
  const Buffer f32_memory(f32_written ? 0 : static_cast<size_t>(shape.numel()) * sizeof(float));
  const Tensor f32(f32_written ? out.data : f32_memory.data(), Dtype::F32, info.shape);
  if (target.dense.data) {
    convert(f32.data, Dtype::F32, target.dense.data, target.dense.dtype, f32.numel());
  } else {
    source.read(info, f32);
    if (const Tensor mapped = source.map(info); mapped.data) release_pages(mapped.data, mapped.bytes());
  }
  Context ctx;
  if (target.adapter) target.adapter->merge_into(ctx, f32, target.part);
  if (target.embedding) target.embedding->merge_into(ctx, f32);
  if (!f32_written) convert(out.data, out.dtype, f32.data, Dtype::F32, f32.numel());
  write(out.data, out.bytes());
}

}  // namespace

MergeReport merge_to_folder(const Model& model, const AdapterSet* adapter, const std::string& folder, const WeightFormat& format,
                            std::optional<Dtype> written_as, const std::function<bool()>& keep_going) {
  const TensorSource& source = *model.source;
  const std::map<std::string, Target> targets = merge_targets(model, adapter);
  const bool untied = adapter && unties(model, *adapter);
  const std::string head = "lm_head.weight", embedding = std::string(kEmbeddingPath) + ".weight";
  MergeReport report;
  std::vector<WeightToWrite> weights;
  const auto add = [&](const TensorInfo& info, const std::string& name) {
    const auto target = targets.find(name);
    WeightToWrite weight = stored_weight(source, info);
    weight.entry.name = name;
    const Dtype type = holds_floats(info.dtype) ? written_as.value_or(info.dtype) : info.dtype;
    if (target != targets.end() || type != info.dtype) {
      static const Target kAsItIs;
      weight.entry.dtype = type;
      weight.write = [&source, &info, &keep_going, type,
                      at = target == targets.end() ? &kAsItIs : &target->second](const WriteBytes& write) {
        if (keep_going && !keep_going()) throw Stopped();
        write_merged(source, info, *at, type, write);
      };
      if (target != targets.end()) ++report.merged;
    }
    weights.push_back(std::move(weight));
  };
  if (untied)
    if (const TensorInfo* info = source.find(embedding)) add(*info, head);
  for (const TensorInfo& info : source.tensors())
    if (!model.config.tie_word_embeddings || info.name != head) add(info, info.name);
  report.tensors = static_cast<int64_t>(weights.size());
  write_quantised(model, weights);
  report.shards = write_weight_files(weights, folder, format);
  return report;
}

void check_merge(const Model& model, const AdapterSet* adapter, const std::string& folder, MergeReport& report) {
  ModelFiles files = open_model_files(folder);
  Model merged = load_model(files, {model.use_bf16});
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
    Arena arena(dry.peak()), scratch(scratch_bytes(m, kRows, false, sets) + head_scratch_bytes(m, kRows, set));
    Activations activations = plan_activations(m, kRows, false, sets, arena);
    Pass pass{&activations, nullptr, sets, &scratch, false};
    Context ctx;
    decoder_forward(ctx, m, b, pass);
    memory = Buffer(static_cast<size_t>(kRows * m.config.vocab_size) * sizeof(float));
    Tensor out(memory.data(), Dtype::F32, {kRows, m.config.vocab_size});
    head_logits(ctx, m, out, activations.hidden, set, scratch);
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
