// Full and freeze training: which tensors of the base train, and the whole model as what is saved; for LoRA the adapter. Called by train().
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/io/weight_files.h"
#include "loraine/io/write_text_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/method.h"
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

// LLaMA-Factory's rule: a tensor trains when its name holds ".<layer>.<module>" of a trained layer or the name of an extra module, so that
// the extra module `norm` also trains the norms inside the layers.
std::vector<std::string> trained_fragments(const TrainConfig& c, const Model& model) {
  std::set<std::string> inside, outside = {"embed_tokens", "norm"};
  if (!model.config.tie_word_embeddings) outside.insert("lm_head");
  for (const char* name : {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}) inside.insert(name);
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
  const bool mlp = c.finetuning_type == "full" || c.freeze_trainable_modules.find("all") != std::string::npos ||
                   c.freeze_trainable_modules.find("mlp") != std::string::npos;
  if (mlp && !run.model.experts().empty())
    throw Error(ErrorKind::unsupported, "finetuning_type " + c.finetuning_type + ": experts are not trained whole",
                "use finetuning_type: lora, with lora_target: all,experts for the experts too, or freeze_trainable_modules: self_attn");
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
  if (run.config.finetuning_type == "lora") return write_peft(run.adapter, run.lora, folder);
  const TensorSource& source = *run.model.source;
  std::vector<WeightToWrite> weights;
  for (const TensorInfo& info : source.tensors()) {
    const std::string name = name_to_save(run.model, info.name);
    if (name.empty()) continue;
    const Tensor trained = run.adapter.dense->find_stored(name);
    WeightToWrite weight = stored_weight(source, info);
    weight.entry.name = name;
    if (trained.data) {
      weight.entry.dtype = Dtype::F32;
      weight.write = [trained](const WriteBytes& write) { write(trained.data, trained.bytes()); };
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
  if (run.config.finetuning_type == "lora") return read_lora_tensors(run.adapter, folder);
  const std::shared_ptr<TensorSource> source = turned_source(open_tensor_source(folder), run.model.config.names.turned);
  for (const Parameter& p : run.adapter.dense->parameters) {
    const TensorInfo* info = source->find(p.name);
    const bool of_one_shape = info && info->shape == std::vector<int64_t>(p.value.shape, p.value.shape + p.value.rank);
    const bool flat = info && p.value.rank == 1 && Tensor(nullptr, Dtype::F32, info->shape).numel() == p.value.numel();  // Vector
    if (!of_one_shape && !flat)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} is {}, this run needs {}", folder, p.name,
                              info ? Tensor(nullptr, Dtype::F32, info->shape).shape_text() : "missing", p.value.shape_text()),
                  "resume with the settings the checkpoint was made with, or start anew");
    source->read(*info, p.value);
    if (const Tensor mapped = source->map(*info); mapped.data) release_if_mapped(mapped.data, mapped.bytes());
    if (std::any_of(p.value.f32(), p.value.f32() + p.value.numel(), [](float v) { return !std::isfinite(v); }))
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", folder, p.name));
  }
}

}  // namespace loraine
