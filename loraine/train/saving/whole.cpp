// Full and freeze training: which tensors of the base train, and the whole model as what is saved; for LoRA the adapter. Called by train().
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "loraine/adapters/data_start.h"
#include "loraine/adapters/dense.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/io/weight_files.h"
#include "loraine/io/write_text_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/config/method.h"
#include "loraine/train/run.h"

namespace loraine {
namespace {

constexpr int64_t kShardBytes = 5'000'000'000;

std::string joined_names(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void check_known(const char* key, const std::vector<std::string>& names, const std::set<std::string>& known) {
  for (const std::string& name : names)
    if (!known.contains(name) && !(name == "all" && std::string(key) == "freeze_trainable_modules"))
      throw Error(ErrorKind::usage, fmt::format("{}: the model has no '{}' there", key, name), "use one of: " + joined_names(known));
}

// Of all tensors in layers, the name after the layer's number.
std::vector<std::string> paths_in_layers(const Model& model) {
  std::vector<std::string> all;
  const std::string begin = model.config.names.layers + ".";
  const auto add = [&](const std::string& path) {
    if (path.starts_with(begin)) all.push_back(path.substr(path.find('.', begin.size()) + 1));
  };
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts) add(part.name);
  for (const Vector* vector : model.vectors()) add(vector->name);
  for (const ExpertWeights* experts : model.experts()) add(experts->name());
  return all;
}

// LLaMA-Factory's rule: a tensor trains when its name holds ".<layer>.<module>" of a trained layer or the name of an extra module, so that
// the extra module `norm` also trains the norms inside the layers.
std::vector<std::string> trained_fragments(const TrainConfig& c, const Model& model) {
  const ModelNames& names = model.config.names;
  const auto last_word = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  std::set<std::string> inside, outside = {last_word(names.embedding), last_word(names.final_norm)};
  if (!model.config.tie_word_embeddings) outside.insert(last_word(names.head));
  for (const std::string& path : paths_in_layers(model)) inside.insert(path.substr(0, path.find('.')));
  const std::vector<std::string> modules = split_list(c.freeze_trainable_modules), extra = split_list(c.freeze_extra_modules);
  check_known("freeze_trainable_modules", modules, inside);
  check_known("freeze_extra_modules", extra, outside);
  const int64_t layers = model.config.num_hidden_layers, n = c.freeze_trainable_layers;
  const int64_t first = n > 0 ? std::max<int64_t>(0, layers - n) : 0, last = n > 0 ? layers : std::min(-n, layers);
  std::vector<std::string> fragments = extra;
  std::vector<int64_t> trained = c.use_llama_pro ? llama_pro_layers(layers, n) : std::vector<int64_t>();
  for (int64_t layer = first; layer < last && !c.use_llama_pro; ++layer) trained.push_back(layer);
  for (const int64_t layer : trained)
    for (const std::string& module : modules) fragments.push_back(fmt::format(".{}.{}", layer, module == "all" ? "" : module));
  return fragments;
}

// config.json as transformers writes it after training.
Json trained_config(const Run& run) {
  Json config = run.input.files.config;
  config["use_cache"] = false;
  if (run.adapter.dense->embedding.value.data) {  // the type of the first tensor counts
    config.erase("torch_dtype");
    config["dtype"] = "float32";
  }
  return config;
}

}  // namespace

void attach_whole(Run& run) {
  const TrainConfig& c = run.config;
  if (c.finetuning_type == "full") {
    attach_dense(
        run.adapter, run.model, [](const std::string& name) { return name; }, true, true);
  } else {
    const std::vector<std::string> fragments = trained_fragments(c, run.model);
    attach_dense(
        run.adapter, run.model,
        [&](const std::string& name) {
          return std::ranges::any_of(fragments, [&](const std::string& part) { return name.find(part) != std::string::npos; }) ? name : "";
        },
        true, true);
  }
  if (!run.adapter.dense)
    throw Error(ErrorKind::usage, "freeze_trainable_layers is 0 and freeze_extra_modules names nothing: there is nothing to train",
                "set freeze_trainable_layers: 2");
}

void write_trained(const Run& run, const std::string& folder) {
  if (run.config.finetuning_type == "lora" && moves_base_by_data(run.lora)) {
    LoraConfig doubled = run.lora;
    const AdapterSet converted = over_whole_base(run.adapter, run.data_start, run.model.sites(), doubled);
    return write_peft(converted, doubled, folder);
  }
  if (trains_adapter(run.config)) return write_peft(run.adapter, run.lora, folder);
  const TensorSource& source = *run.model.source;
  std::unordered_map<std::string, Tensor> all_trained;
  for (const StoredTensor& stored : run.adapter.dense->in_files) all_trained[stored.name] = stored.value;
  std::vector<WeightToWrite> weights;
  for (const TensorInfo& info : source.tensors()) {
    const std::string name = name_to_save(run.model, info.name);
    if (name.empty()) continue;
    const auto found = all_trained.find(name);
    const Tensor trained = found == all_trained.end() ? Tensor() : found->second;
    WeightToWrite weight = stored_weight(source, info);
    weight.entry.name = name;
    if (trained.data) {
      weight.entry.dtype = Dtype::F32;
      weight.write = [trained](const WriteBytes& write) {
        if (trained.contiguous()) return write(trained.data, trained.bytes());
        for (int64_t row = 0; row < trained.rows(); ++row) write(trained.row_range(row, 1).data, trained.row_range(row, 1).bytes());
      };
    }
    weights.push_back(is_turned(run.model.config.names.turned, info.name) ? turned(std::move(weight)) : std::move(weight));
  }
  write_weight_files(weights, folder, {kShardBytes, false});
  write_config_files(run.input.files, trained_config(run), folder);
}

void read_trained(Run& run, const std::string& folder) {
  if (run.ranks) {
    run.ranks->read_state(folder);
    return run.adapter.refresh(run.ctx);
  }
  if (run.config.finetuning_type == "lora" && moves_base_by_data(run.lora)) return read_from_whole_base(run, folder);
  if (trains_adapter(run.config)) return read_lora_tensors(run.adapter, folder);
  const std::shared_ptr<TensorSource> source = turned_source(open_tensor_source(folder), run.model.config.names.turned);
  for (const StoredTensor& stored : run.adapter.dense->in_files) {
    const Tensor& to = stored.value;
    const TensorInfo* info = source->find(stored.name);
    const bool of_one_shape = info && info->shape == std::vector<int64_t>(to.shape, to.shape + to.rank);
    const bool flat = info && to.rank == 1 && Tensor(nullptr, Dtype::F32, info->shape).numel() == to.numel();  // Vector
    if (!of_one_shape && !flat)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} is {}, this run needs {}", folder, stored.name,
                              info ? Tensor(nullptr, Dtype::F32, info->shape).shape_text() : "missing", to.shape_text()),
                  "resume with the settings the checkpoint was made with, or start anew");
    const Buffer memory(to.contiguous() ? 0 : to.bytes());
    const Tensor values(to.contiguous() ? to.data : memory.data(), Dtype::F32, info->shape);
    source->read(*info, values);
    if (const Tensor mapped = source->map(*info); mapped.data) release_if_mapped(mapped.data, mapped.bytes());
    if (std::any_of(values.f32(), values.f32() + values.numel(), [](float v) { return !std::isfinite(v); }))
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", folder, stored.name));
    for (int64_t row = 0; row < (to.contiguous() ? 0 : to.rows()); ++row)
      std::copy_n(values.f32() + row * to.cols(), to.cols(), to.row_range(row, 1).f32());
  }
}

}  // namespace loraine
