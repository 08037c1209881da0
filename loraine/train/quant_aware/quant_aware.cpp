// The plan of an export is made once; its tensors are those of the adapter as it is when they are asked for.
#include "loraine/train/quant_aware/quant_aware.h"

#include <fmt/format.h>

#include <map>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/model/attach.h"
#include "loraine/model/layer.h"
#include "loraine/train/quant_aware/rounded_base_lora.h"

namespace loraine {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::unsupported, "quant_aware: " + what, "train without quant_aware, and export as GGUF afterwards");
}

// Where a matrix of the file lies in the model: parts of sites and of experts, by what the file calls them.
std::map<std::string, WeightPart*> parts_by_stored_name(Model& model) {
  std::map<std::string, WeightPart*> all;
  for (const auto& layer : model.layers) {
    const Parts parts = layer->parts();
    for (Site* site : parts.sites)
      for (WeightPart& part : site->weight.parts) all[part.stored + ".weight"] = &part;
    for (ExpertWeights* experts : parts.experts)
      for (ExpertStack& stack : experts->stacks)
        if (stack.stored.empty())
          for (WeightPart& part : stack.parts) all[part.stored + ".weight"] = &part;
  }
  if (!model.config.tie_word_embeddings)
    for (WeightPart& part : model.head.weight.parts) all[part.stored + ".weight"] = &part;
  return all;
}

void check_adapters(const Model& model, const AdapterSet& set) {
  if (set.dense || set.embedding || !set.token_rows.empty()) refuse("whole tensors and LoRA on the embedding are trained beside the codes");
  for (const auto& one : set.experts)
    if (one) refuse("LoRA on experts is not built for it");
  for (const auto& site : set.sites)
    if (site && !site->as_lora()) refuse("the adapter is not of A and B alone (DoRA)");
  if (unties(model, set)) refuse("LoRA on a head that is the embedding would make two of them");
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts)
      if (part.changed || part.quant_state || is_packed(part.weight.dtype))
        refuse(fmt::format("{} is not what the model's file holds in 16 or 32 bits", part.name));
}

}  // namespace

QuantAware::QuantAware(Model& model, AdapterSet& set, const ModelFiles& files, const std::string& type) {
  const GgufRecipe& recipe = gguf_recipe(type);
  if (!recipe.quantised()) refuse(type + " has no codes");
  check_adapters(model, set);
  const std::vector<const Weight*> sites = model.sites();
  for (size_t s = 0; s < set.sites.size(); ++s) {
    if (!set.sites[s]) continue;
    auto wrapped = std::make_unique<RoundedBaseLora>(std::move(set.sites[s]), sites[s]->in());
    adapters_.push_back(wrapped.get());
    set.sites[s] = std::move(wrapped);
  }
  merge_ = plan_merge(model, &set);
  plan_ = plan_gguf(*merge_, files, {}, recipe);
  const std::map<std::string, WeightPart*> parts = parts_by_stored_name(model);
  const std::string embedding = model.config.names.in_files(model.config.names.embedding) + ".weight";
  const size_t made = plan_.keys.made.size();
  for (size_t i = 0; i < plan_.outputs.size(); ++i) {
    const GgufOutput& output = plan_.outputs[i];
    const Dtype codes = *ggml_type(plan_.entries[made + i].type)->weight;
    if (!is_packed(codes) && codes != Dtype::F16) continue;
    for (const std::string& source : output.sources) {
      const auto part = parts.find(source);
      const bool whole = output.first_row == 0 && output.shape.size() == (output.sources.size() > 1 ? 3u : 2u);
      const int64_t rows = output.shape[output.shape.size() - 2], columns = output.shape.back();
      if ((part == parts.end() && source != embedding) || !whole || (part != parts.end() && part->second->transposed))
        refuse(source + " lies in the GGUF in another form than in the model");
      Coded coded{plan_.weights.at(source), Buffer(static_cast<size_t>(bytes_of(codes, rows * columns))), {}, false};
      coded.codes = Tensor(coded.memory.data(), codes, {rows, columns});
      const auto computed = merge_->computed.find(source);
      coded.adapted = computed != merge_->computed.end() && computed->second.adapter;
      if (part != parts.end()) {
        if (part->second->weight.rows() != rows || part->second->weight.cols() != columns)
          refuse(source + " has rows for more than one matrix");
        part->second->owned = Buffer();
        part->second->weight = coded.codes;
      } else {
        model.embedding_memory = Buffer();
        model.embedding = coded.codes;
        if (model.config.tie_word_embeddings)
          for (WeightPart& head : model.head.weight.parts) head.weight = coded.codes;
      }
      coded_.push_back(std::move(coded));
    }
  }
}

QuantAware::~QuantAware() = default;

void QuantAware::make(Coded& coded) {
  const MergedBytes merged = merged_bytes(*coded.source);
  const int64_t rows = coded.codes.rows(), columns = coded.codes.cols();
  const auto row_bytes = static_cast<size_t>(bytes_of(coded.codes.dtype, columns));
  parallel_for(
      rows,
      [&](int64_t row) {
        thread_local std::vector<float> values;
        values.resize(static_cast<size_t>(columns));
        void* to = static_cast<char*>(coded.memory.data()) + row_bytes * static_cast<size_t>(row);
        convert(values.data(), Dtype::F32, static_cast<const char*>(merged.tensor.data) + bytes_of(merged.tensor.dtype, row * columns),
                merged.tensor.dtype, columns);
        store_gguf_row(to, coded.codes.dtype, values.data(), columns);
      },
      (1 << 14) / columns + 1);
  coded.made = true;
}

void QuantAware::refresh(int64_t step, bool changed) {
  if (step == step_ && !changed) return;
  for (Coded& coded : coded_)
    if (coded.adapted || !coded.made) make(coded);
  for (RoundedBaseLora* adapter : adapters_) adapter->keep();
  step_ = step;
}

}  // namespace loraine
