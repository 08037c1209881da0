// Opening a model with its adapters and its template, and turning conversations into ids.
#include "loraine/api/loaded_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/adapters/peft_files.h"
#include "loraine/api/named_adapters.h"
#include "loraine/core/batch.h"
#include "loraine/generate/engine.h"
#include "loraine/io/hub_cache.h"
#include "loraine/model/attach.h"
#include "loraine/model/finite.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/load_options.h"

namespace loraine {
namespace {

void warn(LoadedModel& loaded, const std::string& text, ErrorKind kind) {
  if (text.empty()) return;
  if (loaded.config.strict) throw Error(kind, text, "correct it, or leave strict out to go on with a warning");
  loaded.warnings.emplace_back(kind, text);
}

std::vector<int32_t> read_stop_ids(const LoadedModel& loaded) {
  std::vector<int32_t> ids = eos_token_ids(loaded.files, loaded.model.config);
  ids.insert(ids.end(), loaded.special.stop.begin(), loaded.special.stop.end());
  if (loaded.text.tokenizer && loaded.files.tokenizer_config && loaded.files.tokenizer_config->contains("eos_token")) {
    const Json& eos = (*loaded.files.tokenizer_config)["eos_token"];
    const std::string token = eos.is_string() ? eos.get<std::string>() : eos.is_object() ? eos.value("content", "") : "";
    if (auto id = loaded.text.tokenizer->token_to_id(token)) ids.push_back(*id);
  }
  return ids;
}

void load_adapters(LoadedModel& loaded) {
  std::vector<const AdapterSet*> unnamed;
  for (const NamedAdapter& adapter : named_adapters(loaded.config.adapter_name_or_path)) {
    const AdapterSet& set = loaded.add_adapter(adapter.name, adapter.path);
    if (!adapter.own_name) unnamed.push_back(&set);
    if (!loaded.adapter) loaded.adapter = &set;
  }
  if (unnamed.size() > 1) {
    AdapterSet& all = loaded.adapters["all"] = combine_adapters(unnamed, loaded.model.sites());
    all.name = "all";
    loaded.adapter = &all;
  }
}

}  // namespace

const AdapterSet* LoadedModel::find(const std::string& name) const {
  if (name == "base") return nullptr;
  if (auto it = adapters.find(name); it != adapters.end()) return &it->second;
  throw Error(ErrorKind::usage, "no adapter is called '" + name + "'",
              adapter_names.empty() ? "none is loaded; give them as adapter_name_or_path: name=path,other=path"
                                    : fmt::format("there are: base, {}", fmt::join(adapter_names, ", ")));
}

AdapterSet& LoadedModel::add_adapter(const std::string& name, const std::string& given) {
  if (name.empty() || name == "all" || name == "base" || adapters.count(name))
    throw Error(ErrorKind::usage, "adapter_name_or_path: the name '" + name + "' is empty, taken, or means all of them or none",
                "give each a name of its own: name=path,other=path");
  const auto [path, note] = find_place(given, config.model_revision, HubKind::adapter);
  if (!note.empty()) places.push_back(note);
  const bool own_base = quantises_base(read_lora_config(path));
  if (!base_is_for.empty() || (own_base && !adapters.empty()))
    throw Error(
        ErrorKind::usage,
        fmt::format("{} cannot be loaded beside {}: LoftQ's adapter {} runs over a base of its own, which it quantises as at its start",
                    path, base_is_for.empty() ? fmt::format("{}", fmt::join(adapter_names, ", ")) : base_is_for,
                    own_base ? path : base_is_for),
        "open the model with that adapter alone, or merge it with loraine export");
  if (own_base) base_is_for = path;
  LoraConfig lora;
  AdapterSet set = loraine::load_adapter(model, path, &lora);
  set.name = name;
  for (const auto& [kind, text] : adapter_warnings(lora, path, config.model_name_or_path)) warn(*this, text, kind);
  adapter_names.push_back(name);
  return adapters[name] = std::move(set);
}

void LoadedModel::remove_adapter(const std::string& name) {
  const AdapterSet* set = find(name);
  if (!set) throw Error(ErrorKind::usage, "the base cannot be unloaded");
  if (adapter == set) adapter = nullptr;
  std::erase(adapter_names, name);
  adapters.erase(name);
}

int64_t LoadedModel::widest_adapter() const {
  int64_t widest = 1;
  for (const auto& [name, set] : adapters) widest = std::max(widest, rank_columns(set));
  return widest;
}

std::vector<int32_t> LoadedModel::prompt_ids(const Conversation& conversation) const {
  EncodeOptions options;
  options.enable_thinking = config.enable_thinking;
  options.split_special_tokens = config.split_special_tokens;
  if (named) return encode_prompt(*named, *text.tokenizer, special, conversation, options);
  return encode_prompt(*text.chat_template, *text.tokenizer, conversation, config.default_system.value_or(""), options);
}

Example LoadedModel::answered(const Conversation& conversation, const std::string& answer) const {
  Conversation whole = conversation;
  whole.messages.push_back({Role::assistant, answer});
  EncodeOptions options;
  options.enable_thinking = config.enable_thinking;
  options.split_special_tokens = config.split_special_tokens;
  options.one_turn = true;
  std::vector<Turn> turns;
  if (named) {
    turns = encode_turns(*named, *text.tokenizer, special, whole, options);
  } else {
    nlohmann::ordered_json kwargs = nlohmann::ordered_json::object();
    const auto messages = template_messages(whole, config.default_system.value_or(""), kwargs);
    turns = chat_template_turns(*text.chat_template, *text.tokenizer, messages, kwargs, options);
  }
  Example example;
  for (size_t i = 0; i < turns.size(); ++i) {
    const bool last = i + 1 == turns.size();
    for (const auto* part : {&turns[i].source, &turns[i].target}) {
      example.input_ids.insert(example.input_ids.end(), part->begin(), part->end());
      if (last && part == &turns[i].target) example.labels.insert(example.labels.end(), part->begin(), part->end());
      else example.labels.insert(example.labels.end(), part->size(), kIgnoreLabel);
    }
  }
  return example;
}

std::unique_ptr<LoadedModel> load_for_answers(const TrainConfig& config, bool needs_text) {
  auto loaded = std::make_unique<LoadedModel>();
  loaded->config = config;
  loaded->files = open_model_files(config.model_name_or_path, config.model_revision);
  if (!loaded->files.place_note.empty()) loaded->places.push_back(loaded->files.place_note);
  loaded->text = open_text(loaded->files);
  if (needs_text && !loaded->text.tokenizer) throw no_tokenizer(loaded->files);
  if (needs_text && !config.template_name && !loaded->text.chat_template) throw no_chat_template(loaded->files);
  if (loaded->text.tokenizer) {
    warn(*loaded, loaded->files.tokenizer_note, ErrorKind::usage);
    loaded->special = special_tokens_of(loaded->files, *loaded->text.tokenizer);
    if (config.template_name) {
      loaded->named = named_template(*config.template_name, config.default_system);
      apply_template_tokens(*loaded->named, *loaded->text.tokenizer, loaded->special, embedding_rows(loaded->files));
    }
  }
  warn(*loaded, quantised_already(loaded->files, config), ErrorKind::usage);
  warn(*loaded, not_computed_in(config), ErrorKind::usage);
  loaded->model = load_model(loaded->files, answer_load_options(config));
  warn(*loaded, untied_text(loaded->model), ErrorKind::bad_data);
  const bool int8 = config.frozen_matmul == "int8";
  loaded->model.read_once = int8;  // the layers are read here, and once more to be rounded
  warn(*loaded, not_finite_text(loaded->model), ErrorKind::numeric);
  loaded->model.read_once = false;
  if (int8) blocks_to_int8(loaded->model);
  load_adapters(*loaded);
  loaded->stop_ids = read_stop_ids(*loaded);
  return loaded;
}

GenerateOptions generate_options(const LoadedModel& loaded) { return generate_options(loaded, loaded.config); }

GenerateOptions generate_options(const LoadedModel& loaded, const TrainConfig& c) {
  return {c.max_new_tokens,     c.do_sample, c.temperature,   c.top_p,
          c.repetition_penalty, c.top_k,     loaded.stop_ids, static_cast<uint64_t>(c.seed)};
}

}  // namespace loraine
