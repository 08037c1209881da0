// See stored_beside.h.
#include "loraine/model/stored_beside.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "loraine/adapters/dense.h"
#include "loraine/core/error.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/model/attach.h"
#include "loraine/model/base_tensors.h"

namespace loraine {
namespace {

constexpr std::string_view kPeftPrefix = "base_model.model.", kPeftBase = ".base_layer";

// The base's name of a tensor that PEFT stores whole: "base_model.model.lm_head.base_layer.weight" → "lm_head.weight".
std::string base_name(const std::string& in_file) {
  std::string name = in_file.substr(std::min(kPeftPrefix.size(), in_file.size()));
  if (const size_t at = name.rfind(kPeftBase); at != name.npos) name.erase(at, kPeftBase.size());
  return name;
}

}  // namespace

void find_beside(AdapterSet& set, const Model& model, const LoraConfig& config, const TensorSource& source) {
  const std::vector<Parameter> parameters = set.parameters();
  const auto known = [](const std::vector<Parameter>& all, const std::string& name) {
    return std::ranges::any_of(all, [&](const Parameter& p) { return p.name == name; });
  };
  for (const BaseTensor& t : base_tensors(model, false)) {
    const std::string name = std::string(kPeftPrefix) + t.name;
    if (t.experts || !source.find(name) || known(parameters, name) || known(set.beside, name)) continue;
    if (!target_rank(config, t.name.substr(0, t.name.rfind('.')))) set.beside.push_back({name, t.value, {}});
  }
}

void attach_token_rows(AdapterSet& set, const Model& model, const LoraConfig& config) {
  const int64_t vocabulary = model.config.vocab_size, columns = model.config.hidden_size;
  const ModelNames& names = model.config.names;
  for (const auto& [module, ids] : config.trainable_tokens) {
    const bool embedding = names.embedding.ends_with(module), head = names.head.ends_with(module);
    if (module.empty() || !(embedding || head))
      throw Error(ErrorKind::unsupported, "trainable_token_indices is not built for " + module, "merge the adapter with PEFT");
    const std::string path = embedding ? names.embedding : names.head;
    if (target_rank(config, path) || is_saved_module(config, path))
      throw Error(ErrorKind::unsupported, "trainable_token_indices beside LoRA on " + path + ", or beside training it whole, is not built",
                  "merge the adapter with PEFT");
    for (const int64_t id : ids)
      if (id < 0 || id >= vocabulary)
        throw Error(ErrorKind::usage, fmt::format("trainable_token_indices names token {}, and the model has {}", id, vocabulary),
                    "give it over a base whose vocabulary was enlarged in the same way");
    const bool same =
        std::ranges::any_of(config.trainable_tokens, [&, &ids = ids](const auto& one) { return &one.second != &ids && one.second == ids; });
    if (head && same && model.config.tie_word_embeddings) continue;  // one adapter for both
    TokenRows rows{path + ".weight", ids, {}, Buffer(ids.size() * static_cast<size_t>(columns) * sizeof(float), true)};
    rows.rows = {std::string(kPeftPrefix) + path + ".token_adapter.trainable_tokens_delta",
                 Tensor(rows.memory.data(), Dtype::F32, {static_cast<int64_t>(ids.size()), columns}),
                 {}};
    set.token_rows.push_back(std::move(rows));
  }
}

void read_beside(AdapterSet& set, const Model& model, const AdapterFile& file, bool trained) {
  if (set.beside.empty() && set.token_rows.empty()) return;
  const std::string embedding = model.config.names.embedding + ".weight", head = model.config.names.head + ".weight";
  const TensorSource* source = file.tensors.get();
  const auto own = [&](const std::string& name) { return set.dense && set.dense->find(name).data; };
  const bool rows_of_head = std::ranges::any_of(set.token_rows, [&](const TokenRows& t) { return t.base_name == head; });
  const bool share = model.config.tie_word_embeddings && !own(embedding) && !own(head) && !rows_of_head;  // the last that is read counts
  std::map<std::string, std::pair<std::string, Buffer>> differing;  // the base's name → the file's, values
  for (const Parameter& p : set.beside) {
    const TensorInfo* info = source->find(p.name);
    std::string name = base_name(p.name);
    if (!info || own(name)) continue;
    if (info->shape != std::vector<int64_t>(p.value.shape, p.value.shape + p.value.rank))
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, and the model's is {}{}", file.path, p.name,
                                                   Tensor(nullptr, Dtype::F32, info->shape).shape_text(), p.value.shape_text(),
                                                   vocabulary_text(p.name, info->shape, p.value)));
    if (share && name == head) differing.erase(embedding), name = embedding;
    else if (share && name == embedding && differing.contains(name)) continue;
    const size_t bytes = static_cast<size_t>(p.value.numel()) * sizeof(float);
    Buffer stored(bytes), base(bytes);
    source->read(*info, Tensor(stored.data(), Dtype::F32, info->shape));
    widen_row(static_cast<float*>(base.data()), p.value);
    if (std::memcmp(stored.data(), base.data(), bytes) != 0) differing[name] = {p.name, std::move(stored)};
  }
  for (const TokenRows& t : set.token_rows) {
    auto& [name, table] = differing[t.base_name];
    const Tensor& base = t.base_name == head ? model.head.weight.parts.at(0).weight : model.embedding;
    if (name.empty()) {
      name = std::string(kPeftPrefix) + t.base_name;
      table = Buffer(static_cast<size_t>(base.numel()) * sizeof(float));
      widen_row(static_cast<float*>(table.data()), base);
    }
    const int64_t columns = base.cols();
    for (size_t i = 0; i < t.ids.size(); ++i)
      std::copy_n(t.rows.value.f32() + static_cast<int64_t>(i) * columns, columns, static_cast<float*>(table.data()) + t.ids[i] * columns);
  }
  if (differing.empty()) return;
  for (const auto& [name, one] : differing) {
    const float* values = static_cast<const float*>(one.second.data());
    if (!std::all_of(values, values + one.second.bytes() / sizeof(float), [](float v) { return std::isfinite(v); }))
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", file.path, one.first));
  }
  const std::shared_ptr<DenseSet> before = set.dense;
  if (before && trained)
    throw Error(ErrorKind::unsupported, file.path + ": it stores changed tensors of the base beside those that it trains",
                "merge it with loraine export, and train on the result");
  attach_dense(
      set, model,
      [&](const std::string& name) -> std::string {
        if (const auto found = differing.find(name); found != differing.end()) return found->second.first;
        if (before)
          for (size_t i = 0; i < before->base_name.size(); ++i)
            if (before->base_name[i] == name) return before->parameters[i].name;
        return "";
      },
      false, share);
  for (size_t i = 0; i < set.dense->base_name.size(); ++i) {
    const Tensor& to = set.dense->parameters[i].value;
    const auto found = differing.find(set.dense->base_name[i]);
    std::memcpy(to.data, found != differing.end() ? found->second.second.data() : before->find(set.dense->base_name[i]).data, to.bytes());
  }
  std::erase_if(set.beside, [&](const Parameter& p) { return set.dense->find(base_name(p.name)).data != nullptr; });
}

}  // namespace loraine
