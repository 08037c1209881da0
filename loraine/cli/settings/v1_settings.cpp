// Key by key. Facts: src/llamafactory/v1/config and the plugins that read its maps.
#include "loraine/cli/settings/v1_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/hub/data_file.h"

namespace loraine {
namespace {

// For messages: bytes that are no UTF-8 are replaced.
template <class Value>
std::string shown(const Value& value) {
  return value.dump(-1, ' ', false, Value::error_handler_t::replace);
}

using Names = std::map<std::string, std::string>;

// Only such files have these; the other keys of v1 are words of many programs, and say so beside USE_V1 alone.
const std::set<std::string> kOnlyV1 = {"peft_config",       "dist_config",         "optim_config",        "kernel_config",
                                       "quant_config",      "lr_scheduler_config", "init_config",         "model_class",
                                       "batching_strategy", "sample_backend",      "custom_chat_template"};
const std::set<std::string> kOfManyPrograms = {"model", "train_dataset", "micro_batch_size", "global_batch_size"};

bool is_v1(const KeyValue& pair) {
  const char* use = std::getenv("USE_V1");
  return kOnlyV1.contains(pair.key) || (use && *use && std::string(use) != "0" && kOfManyPrograms.contains(pair.key));
}

// The same meaning under another name.
const Names kRenamed = {{"model", "model_name_or_path"},
                        {"micro_batch_size", "per_device_train_batch_size"},
                        {"enable_activation_checkpointing", "gradient_checkpointing"}};
// Where and how fast it runs on GPUs: nothing of it changes what comes out.
const std::set<std::string> kWithoutEffect = {"kernel_config", "dist_config",     "init_config",    "batching_workers", "cp_mode",
                                              "dist_timeout",  "save_ckpt_as_hf", "sample_backend", "flash_attn",       "mp_shard_size"};
const Names kLora = {{"r", "lora_rank"},
                     {"lora_alpha", "lora_alpha"},
                     {"lora_dropout", "lora_dropout"},
                     {"target_modules", "lora_target"},
                     {"use_rslora", "use_rslora"},
                     {"use_dora", "use_dora"},
                     {"modules_to_save", "additional_target"},
                     {"adapter_name_or_path", "adapter_name_or_path"},
                     {"export_dir", "export_dir"},
                     {"export_size", "export_size"},
                     {"export_hub_model_id", "export_hub_model_id"},
                     {"infer_dtype", "infer_dtype"},
                     {"export_legacy_format", "export_legacy_format"}};
const Names kFreeze = {{"freeze_trainable_layers", "freeze_trainable_layers"},
                       {"freeze_trainable_modules", "freeze_trainable_modules"},
                       {"freeze_extra_modules", "freeze_extra_modules"}};
const Names kQuantisation = {
    {"quantization_bit", "quantization_bit"}, {"quantization_type", "quantization_type"}, {"double_quantization", "double_quantization"}};

class Translation {
 public:
  explicit Translation(std::vector<KeyValue>& pairs) : given_(std::move(pairs)) { pairs.clear(); }

  std::vector<KeyValue> run(bool training) {
    for (const KeyValue& pair : given_) key(pair);
    accumulate();
    if (training) defaults();
    if (!entries_.empty() && has("dataset_dir"))
      throw Error(ErrorKind::usage, entries_where_ + ": a list of sets beside dataset_dir: the paths in it are from here",
                  "leave dataset_dir out");
    if (!entries_.empty()) own_.push_back({"dataset_dir", entries_.dump(), entries_where_, false, false, ""});
    return std::move(own_);
  }
  const std::vector<std::string>& without_effect() const { return without_effect_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  [[noreturn]] static void no_counterpart(const KeyValue& pair, const std::string& key, const std::string& hint) {
    throw Error(ErrorKind::unsupported, fmt::format("{}: {} of LLaMA-Factory's v1 settings has no counterpart in loraine", pair.where, key),
                hint);
  }

  void add(const KeyValue& from, const std::string& word, const std::string& own, Value value) {
    own_.push_back({own, std::move(value), from.where, from.override_word, from.plain, word == own ? "" : word});
  }

  bool has(const std::string& key) const {
    return std::ranges::any_of(own_, [&](const KeyValue& pair) { return pair.key == key; });
  }

  void key(const KeyValue& pair) {
    const std::string& name = pair.key;
    const bool null = pair.value.is_null(), one = null || pair.value == Value(1);
    if (const auto renamed = kRenamed.find(name); renamed != kRenamed.end()) add(pair, name, renamed->second, pair.value);
    else if (kWithoutEffect.contains(name)) note_without_effect(name, null);
    else if (name == "train_dataset") add(pair, name, "dataset", sets(pair));
    else if (name == "eval_dataset") add(pair, name, name, sets(pair));
    else if (name == "peft_config") peft(pair);
    else if (name == "quant_config") quantisation(pair);
    else if (name == "global_batch_size") global_batch_ = null ? nullptr : &pair;
    else if (name == "optim_config") optimizer(pair);
    else if (name == "lr_scheduler_config")
      refuse_unless(null, pair, "without it the rate is constant, as in v1; lr_scheduler_type names others");
    else if (name == "custom_chat_template") refuse_unless(null, pair, "put the template into the model's folder as chat_template.jinja");
    else if (name == "model_class") refuse_unless(null || pair.value == "llm", pair, "loraine trains language models: llm");
    else if (name == "batching_strategy") batching(pair);
    else if (name == "dp_size" || name == "cp_size" || name == "mp_replicate_size")
      refuse_unless(one, pair, "loraine is one process on one machine: leave it out");
    else if (name == "save_steps" && null) return;
    else if (name == "save_epochs") save_epochs(pair);
    else if (name == "resume_from_checkpoint" && pair.value == "auto") return;  // what loraine does without the key
    else if (name == "max_steps" && null) return;
    else own_.push_back(pair);  // the same here, or an unknown key, which is told as such
  }

  void note_without_effect(const std::string& name, bool null) {
    if (!null) without_effect_.push_back(name);
  }

  // No batch is padded here.
  void batching(const KeyValue& pair) {
    if (!pair.value.is_null()) add(pair, pair.key, pair.key, pair.value == "padding_free" ? Value("normal") : pair.value);
  }

  static void refuse_unless(bool good, const KeyValue& pair, const std::string& hint) {
    if (good) return;
    const std::string name =
        pair.value.is_object() && pair.value.contains("name") ? "name: " + shown(pair.value["name"]) : shown(pair.value);
    no_counterpart(pair, fmt::format("{} ({})", pair.key, name), hint);
  }

  // The maps of plugins: each key under its own name.
  void take_map(const KeyValue& pair, const Names& names, const std::set<std::string>& same_here) {
    for (const auto& [inner, value] : pair.value.items()) {
      const std::string word = pair.key + "." + inner;
      if (inner == "name") continue;
      if (same_here.contains(inner)) {
        note_without_effect(word, value.is_null() || value == Value(true));
        continue;
      }
      const auto own = names.find(inner);
      if (own == names.end()) no_counterpart(pair, word, "leave it out");
      add(pair, word, own->second, value);
    }
  }

  std::string plugin(const KeyValue& pair) const {
    if (!pair.value.is_object() || !pair.value.contains("name") || !pair.value["name"].is_string())
      throw Error(ErrorKind::usage, fmt::format("{}: {} is {}, expected a map with a name", pair.where, pair.key, shown(pair.value)),
                  "write it as in LLaMA-Factory's examples/v1");
    return pair.value["name"].get<std::string>();
  }

  void peft(const KeyValue& pair) {
    if (pair.value.is_null()) return;
    const std::string name = plugin(pair);
    if (name != "lora" && name != "freeze")
      no_counterpart(pair, "peft_config.name: " + name, "v1 has lora and freeze, without peft_config all is trained");
    add(pair, "peft_config.name", "finetuning_type", name);
    if (name == "freeze" && pair.value.value("cast_trainable_params_to_fp32", Value(true)) != Value(true))
      no_counterpart(pair, "peft_config.cast_trainable_params_to_fp32: false", "what is trained is kept in float32: leave it out");
    take_map(pair, name == "lora" ? kLora : kFreeze, {"cast_trainable_params_to_fp32"});
  }

  void quantisation(const KeyValue& pair) {
    if (pair.value.is_null()) return;
    const std::string name = plugin(pair);
    if (name != "bnb" && name != "auto") no_counterpart(pair, "quant_config.name: " + name, "loraine quantises as bitsandbytes does: bnb");
    const bool bit = pair.value.contains("quantization_bit") && !pair.value["quantization_bit"].is_null();
    if (!bit && name == "auto") return;  // v1 then quantises nothing
    if (!bit) add(pair, "quant_config.name", "quantization_bit", 4);
    take_map(pair, kQuantisation, {"compute_dtype", bit ? "" : "quantization_bit"});
  }

  // Muon with v1's own defaults; AdamW is what v1 has without the key.
  void optimizer(const KeyValue& pair) {
    if (pair.value.is_null()) return;
    refuse_unless(plugin(pair) == "muon", pair, "v1 has muon, and AdamW without the key; optim names others");
    add(pair, "optim_config.name", "use_muon", true);
    const Value& map = pair.value;
    add(pair, "optim_config.wd", "weight_decay", map.value("wd", Value(0.1)));
    add(pair, "optim_config.adamw_eps", "adam_epsilon", map.value("adamw_eps", Value(1e-8)));
    const Value betas = map.value("adamw_betas", Value({0.9, 0.95}));
    refuse_unless(betas.is_array() && betas.size() == 2, pair, "adamw_betas are two numbers");
    add(pair, "optim_config.adamw_betas", "adam_beta1", betas[0]);
    add(pair, "optim_config.adamw_betas", "adam_beta2", betas[1]);
    const Value fixed = {{"momentum", 0.95}, {"nesterov", true}, {"ns_steps", 5}};
    for (const auto& [inner, value] : map.items()) {
      if (inner == "name" || inner == "wd" || inner == "adamw_eps" || inner == "adamw_betas") continue;
      if (inner == "lr") note_without_effect("optim_config.lr", false);  // learning_rate counts in v1 too
      else if (!fixed.contains(inner) || fixed[inner] != value)
        no_counterpart(pair, fmt::format("optim_config.{} ({})", inner, shown(value)),
                       "leave it out: momentum is 0.95, nesterov true, ns_steps 5");
    }
  }

  void save_epochs(const KeyValue& pair) {
    if (pair.value.is_null()) return;
    refuse_unless(pair.value.is_number() && pair.value.get<double>() == 1, pair,
                  "save_epochs: 1 is save_strategy: epoch; else save_steps below 1 is a share of all updates");
    add(pair, pair.key, "save_strategy", "epoch");
  }

  // A data file by its path, or a YAML file that lists sets, which may lie in a data set at Hugging Face's hub (org/name/FILE.yaml): each
  // becomes an entry as dataset_info.json has them.
  Value sets(const KeyValue& pair) {
    if (!pair.value.is_string()) return pair.value;
    const std::string path = pair.value.get<std::string>();
    if (!path.ends_with(".yaml")) return pair.value;
    std::string names;
    const FoundPlace place = list_place(pair, path);
    if (!place.note.empty()) notes_.push_back(place.note);
    for (const KeyValue& set : yaml_pairs(read_settings_text(pair, place.path), place.path)) {
      std::string name = set.key;
      const Value entry = entry_of(set);
      if (entries_.contains(name) && entries_[name] != entry) name += " (" + pair.key + ")";
      if (name.find(',') != name.npos || name.empty())
        throw Error(ErrorKind::usage, fmt::format("{}: a set has no name, or one with a comma", set.where), "give it another name");
      entries_[name] = entry;
      entries_where_ = set.where;
      names += (names.empty() ? "" : ",") + name;
    }
    if (names.empty()) throw Error(ErrorKind::usage, fmt::format("{}: it lists no set", path), kListHint);
    return names;
  }

  static constexpr const char* kListHint = "write it as in LLaMA-Factory's data/v1_sft_demo.yaml";

  static Value entry_of(const KeyValue& set) {
    const Value& map = set.value;
    if (!map.is_object() || !map.contains("path") || !map["path"].is_string())
      throw Error(ErrorKind::usage, fmt::format("{}: the set {} has no path", set.where, set.key), kListHint);
    std::error_code failed;
    const bool here = std::filesystem::exists(map["path"].get<std::string>(), failed);
    const Value source = map.value("source", Value(here ? "local" : "hf_hub"));
    const std::string place = source == "local" ? "file_name" : source == "ms_hub" ? "ms_hub_url" : "hf_hub_url";
    Value entry = {{place, map["path"]}};
    bool described = false;  // else what rows are is told by their fields
    for (const auto& [inner, value] : map.items()) {
      if (inner == "path" || value.is_null()) continue;
      if (inner == "source" && (source == "local" || source == "hf_hub" || source == "ms_hub")) continue;
      if (inner == "streaming" && value == Value(false)) continue;
      if (inner == "split") entry["split"] = value;
      else if (inner == "size") entry["num_samples"] = value;
      else if (inner == "weight") entry["weight"] = value;
      else if (inner == "converter" && (value == "alpaca" || value == "sharegpt")) entry["formatting"] = value, described = true;
      else
        throw Error(ErrorKind::unsupported,
                    fmt::format("{}: {}.{}: {} of v1's lists of data has no counterpart", set.where, set.key, inner, shown(value)),
                    "path, source (local, hf_hub, ms_hub), split, size, weight and converter (alpaca, sharegpt) have one");
    }
    if (!described) entry["formatting"] = "recognised";
    if (entry["formatting"] == "alpaca")
      entry["columns"] = {{"prompt", "instruction"}, {"query", "input"}, {"response", "output"}, {"system", "system"}};
    if (entry["formatting"] == "sharegpt") entry["columns"] = {{"messages", "conversations"}, {"tools", "tools"}};
    return entry;
  }

  // What the file says of the hub counts, wherever it stands.
  FoundPlace list_place(const KeyValue& pair, const std::string& path) const {
    HubAccess access;
    const auto text = [&](const char* key, std::string& into) {
      for (const KeyValue& given : given_)
        if (given.key == key && given.value.is_string()) into = given.value.get<std::string>();
    };
    text("hf_hub_token", access.token);
    text("cache_dir", access.cache_dir);
    const std::string where = fmt::format("{}: {}", pair.where, pair.key);
    try {
      return find_data_file(path, access);
    } catch (const MissingFile& error) {
      throw Error(ErrorKind::usage, fmt::format("{}: {}", where, error.what()), error.hint);
    } catch (const Error& error) { throw with_context(error, where); }
  }

  static std::string read_settings_text(const KeyValue& pair, const std::string& path) {
    try {
      return read_file(path, 1 << 20);
    } catch (const Error& error) {
      throw Error(ErrorKind::usage, fmt::format("{}: {}: {}", pair.where, pair.key, error.what()), error.hint);
    }
  }

  void accumulate() {
    if (!global_batch_) return;
    Value micro = 1;
    for (const KeyValue& pair : own_)
      if (pair.key == "per_device_train_batch_size") micro = pair.value;
    const Value& global = global_batch_->value;
    const bool whole = micro.is_number_integer() && global.is_number_integer() && micro.get<int64_t>() > 0 && global.get<int64_t>() > 0;
    if (!whole || global.get<int64_t>() % micro.get<int64_t>() != 0)
      throw Error(ErrorKind::usage,
                  fmt::format("{}: global_batch_size is {}, and micro_batch_size {}, expected a multiple of it", global_batch_->where,
                              shown(global), shown(micro)),
                  "their quotient is gradient_accumulation_steps");
    add(*global_batch_, "global_batch_size", "gradient_accumulation_steps", global.get<int64_t>() / micro.get<int64_t>());
  }

  void defaults() {
    const bool lora = std::ranges::any_of(own_, [](const KeyValue& pair) { return pair.key == "finetuning_type" && pair.value == "lora"; });
    const bool saves = has("save_steps") || has("save_strategy");
    const auto standard = [&](const char* key, Value value) {
      if (!has(key)) own_.push_back({key, std::move(value), "the defaults of LLaMA-Factory's v1", false, false, ""});
    };
    standard("finetuning_type", "full");
    standard("per_device_train_batch_size", 1);
    standard("learning_rate", 1e-4);
    standard("lr_scheduler_type", "constant");
    standard("weight_decay", 0.01);
    standard("bf16", true);
    standard("logging_steps", 1);
    if (!saves) standard("save_strategy", "no");
    if (!lora) return;
    standard("lora_alpha", 16);
    standard("lora_dropout", 0.05);
  }

  std::vector<KeyValue> given_, own_;
  const KeyValue* global_batch_ = nullptr;
  std::vector<std::string> without_effect_, notes_;
  Value entries_ = Value::object();  // of lists of data
  std::string entries_where_;
};

}  // namespace

void translate_v1(std::vector<KeyValue>& pairs, bool training, std::vector<std::string>& notes) {
  const auto first = std::ranges::find_if(pairs, is_v1);
  if (first == pairs.end()) return;
  std::string note = fmt::format("{}: {} is a key of LLaMA-Factory's v1 settings; all are read as such{}", first->where, first->key,
                                 training ? ", and v1's defaults count where nothing is given (docs/from-llama-factory.md)" : "");
  Translation translation(pairs);
  pairs = translation.run(training);
  if (!translation.without_effect().empty()) note += fmt::format("; without effect: {}", fmt::join(translation.without_effect(), ", "));
  notes.push_back(note);
  notes.insert(notes.end(), translation.notes().begin(), translation.notes().end());
}

}  // namespace loraine
