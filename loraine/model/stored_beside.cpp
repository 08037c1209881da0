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

void attach_token_rows(AdapterSet& set, const Model& model, const LoraConfig& config, bool trained) {
  const int64_t vocabulary = model.config.vocab_size, columns = model.config.hidden_size;
  const ModelNames& names = model.config.names;
  for (const auto& [named, ids] : config.trainable_tokens) {
    const std::string module = named.empty() ? names.embedding : named;
    const bool embedding = names.embedding.ends_with(module), head = names.head.ends_with(module);
    if (!(embedding || head))
      throw Error(ErrorKind::unsupported, "trainable_token_indices is not built for " + module, "name the embedding or the head");
    const std::string path = embedding ? names.embedding : names.head;
    if (target_rank(config, path) || is_saved_module(config, path))
      throw Error(ErrorKind::unsupported, "trainable_token_indices beside LoRA on " + path + ", or beside training it whole, is not built",
                  "leave one of the two out; an adapter that is there can be merged with PEFT");
    std::vector<int64_t> sorted = ids;
    std::ranges::sort(sorted);
    for (size_t i = 0; i < sorted.size(); ++i) {
      if (sorted[i] < 0 || sorted[i] >= vocabulary)
        throw Error(ErrorKind::usage, fmt::format("trainable_token_indices names token {}, and the model has {}", sorted[i], vocabulary),
                    "give it over a base whose vocabulary was enlarged in the same way");
      if (i > 0 && sorted[i] == sorted[i - 1])
        throw Error(ErrorKind::usage, fmt::format("trainable_token_indices names token {} twice", sorted[i]), "name it once");
    }
    const bool same =
        std::ranges::any_of(config.trainable_tokens, [&, &ids = ids](const auto& one) { return &one.second != &ids && one.second == ids; });
    if (head && same && model.config.tie_word_embeddings) continue;  // one adapter for both
    const auto count = static_cast<int64_t>(ids.size());
    TokenRows rows{path + ".weight", ids, {}, Buffer(static_cast<size_t>((trained ? 2 : 1) * count * columns) * sizeof(float), true)};
    float* values = static_cast<float*>(rows.memory.data());
    rows.rows = {std::string(kPeftPrefix) + path + ".token_adapter.trainable_tokens_delta", Tensor(values, Dtype::F32, {count, columns}),
                 trained ? Tensor(values + count * columns, Dtype::F32, {count, columns}) : Tensor()};
    const Tensor& table = embedding ? model.embedding : model.head.weight.parts.at(0).weight;
    for (int64_t i = 0; i < count; ++i) widen_row(values + i * columns, table.row_range(ids[static_cast<size_t>(i)], 1));
    rows.of_embedding = embedding;
    set.token_rows.push_back(std::move(rows));
  }
  const bool share = shares_token_rows(set, model, config);
  for (TokenRows& t : set.token_rows) t.of_head = !t.of_embedding || share;
}

bool shares_token_rows(const AdapterSet& set, const Model& model, const LoraConfig& config) {
  const ModelNames& names = model.config.names;
  return model.config.tie_word_embeddings && !set.token_rows.empty() && !is_saved_module(config, names.embedding) &&
         !is_saved_module(config, names.head) && std::ranges::all_of(set.token_rows, [](const TokenRows& t) { return t.of_embedding; });
}

void read_beside(AdapterSet& set, const Model& model, const AdapterFile& file, bool trained) {
  if (set.beside.empty() && set.token_rows.empty()) return;
  const std::string embedding = model.config.names.embedding + ".weight", head = model.config.names.head + ".weight";
  const TensorSource* source = file.tensors.get();
  const auto rows_of = [&](const std::string& name) { return std::ranges::find(set.token_rows, name, &TokenRows::base_name); };
  const auto own = [&](const std::string& name) {
    return set.dense && set.dense->find(name).data && rows_of(name) == set.token_rows.end();
  };
  const bool rows_of_head = rows_of(head) != set.token_rows.end();
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
  for (const auto& [name, one] : differing) {
    const float* values = static_cast<const float*>(one.second.data());
    if (!std::all_of(values, values + one.second.bytes() / sizeof(float), [](float v) { return std::isfinite(v); }))
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", file.path, one.first));
  }
  for (TokenRows& t : set.token_rows) {  // whose tables are there already
    const auto found = differing.find(t.base_name);
    if (found == differing.end()) continue;
    t.table_stored = true;
    const Tensor table = set.dense->find(t.base_name);
    std::memcpy(table.data, found->second.second.data(), table.bytes());
    for (size_t i = 0; i < set.dense->parameters.size(); ++i)
      if (set.dense->base_name[i] == t.base_name) set.dense->parameters[i].name = found->second.first;
    differing.erase(found);
  }
  std::erase_if(set.beside, [&](const Parameter& p) { return rows_of(base_name(p.name)) != set.token_rows.end(); });
  Context ctx;
  set.refresh(ctx);
  if (differing.empty()) return;
  const std::shared_ptr<DenseSet> before = set.dense;
  if (before && trained && std::ranges::any_of(before->parameters, [](const Parameter& p) { return p.gradient.data != nullptr; }))
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
