// See chat_format.h.
#include "loraine/api/chat_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/core/batch.h"
#include "loraine/data/templates/end_of_turn.h"
#include "loraine/io/chat_templates.h"

namespace loraine {
namespace {

bool is_given(const TrainConfig& config, const char* key) { return config.given.contains(key); }

std::string record_text(const TrainingRecord& record) {
  return record.template_name ? "template " + *record.template_name : "the model's own chat template";
}

// What `record`, found in `folder`, says beside what was asked for.
TemplateChoice recorded(const TrainConfig& config, const TrainingRecord& record, const std::string& folder, const char* whose) {
  TemplateChoice choice;
  choice.name = record.template_name;
  choice.default_system = config.default_system ? config.default_system : record.default_system;
  choice.enable_thinking = is_given(config, "enable_thinking") ? config.enable_thinking : record.enable_thinking;
  choice.tool_format = config.tool_format ? config.tool_format : record.tool_format;
  choice.preserve_thinking = is_given(config, "preserve_thinking") ? config.preserve_thinking : record.preserve_thinking;
  choice.folder = folder;
  choice.why = whose;
  return choice;
}

std::string stripped(const std::string& text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string::npos ? 0 : last + 1);
}

// The tokens that end an answer by the tokenizer's own word.
void add_eos(std::vector<int32_t>& ids, const std::optional<std::string>& token, const Tokenizer& tokenizer) {
  if (!token) return;
  if (const auto id = tokenizer.token_to_id(*token)) ids.push_back(*id);
}

}  // namespace

std::optional<Error> unfit_template(const TemplateChoice& choice, const ModelText& text) {
  if (!choice.name || !choice.folder.empty() || !text.tokenizer) return {};
  const Template chat = named_template(*choice.name);
  const std::vector<std::string> missing = missing_tokens(chat, *text.tokenizer);
  if (missing.empty()) return {};
  const std::vector<std::string> fitting = fitting_templates(*text.tokenizer);
  const std::string others = fitting.empty() ? "choose one without tokens of its own, such as alpaca or vicuna"
                                             : fmt::format("choose one whose tokens it has: {}", fmt::join(fitting, ", "));
  return Error(ErrorKind::usage, fmt::format("template {} needs {}, which this tokenizer lacks", chat.name, fmt::join(missing, ", ")),
               text.chat_template ? "leave template out, and the model's own chat template is used; or " + others : others);
}

std::string TemplateChoice::text() const {
  if (name) return fmt::format("{} ({})", *name, why);
  return jinja ? why + " chat_template.jinja" : why + " chat template";
}

bool TemplateChoice::same_as(const TemplateChoice& other) const {
  return name == other.name && jinja == other.jinja && default_system == other.default_system && enable_thinking == other.enable_thinking &&
         tool_format == other.tool_format && preserve_thinking == other.preserve_thinking;
}

TemplateChoice choose_template(const TrainConfig& config, const ModelFiles& files, const std::string& adapter) {
  const auto of_adapter = adapter.empty() ? std::optional<TrainingRecord>() : read_training_record(adapter);
  const auto of_model = read_training_record(files.path);
  TemplateChoice choice;
  choice.default_system = config.default_system;
  choice.enable_thinking = config.enable_thinking;
  choice.tool_format = config.tool_format;
  choice.preserve_thinking = config.preserve_thinking;
  if (config.template_name) {
    choice.name = config.template_name;
    choice.why = "as given";
    const TrainingRecord* record = of_adapter ? &*of_adapter : of_model ? &*of_model : nullptr;
    if (record && record->template_name != config.template_name)
      choice.warning = fmt::format("template {} is given, and {} was trained with {}; leave template out to use that",
                                   *config.template_name, of_adapter ? adapter : files.path, record_text(*record));
    return choice;
  }
  if (of_adapter && of_adapter->template_name) return recorded(config, *of_adapter, adapter, "the adapter's");
  if (of_model && of_model->template_name) choice = recorded(config, *of_model, files.path, "the model's");
  else choice.why = "the model's own";
  if (of_model) choice.folder = files.path;
  if (of_adapter) {
    const TemplateChoice own = recorded(config, *of_adapter, adapter, "");
    choice.folder = adapter;
    choice.default_system = own.default_system;
    choice.enable_thinking = own.enable_thinking;
    choice.tool_format = own.tool_format;
    choice.preserve_thinking = own.preserve_thinking;
  }
  if (adapter.empty()) return choice;
  FolderTemplate beside = read_folder_template(adapter);  // where PEFT and LLaMA-Factory leave it
  if (!beside.chat_template || (files.chat_template && stripped(*files.chat_template) == stripped(*beside.chat_template))) return choice;
  if (choice.name && !of_adapter) return choice;
  choice.name.reset();
  choice.jinja = std::move(beside.chat_template);
  choice.eos_token = std::move(beside.eos_token);
  choice.folder = adapter;
  choice.why = "the adapter's";
  return choice;
}

TemplateChoice choose_template(const TrainConfig& config, const ModelFiles& files, const std::vector<std::string>& adapters) {
  if (adapters.empty()) return choose_template(config, files, std::string());
  TemplateChoice first = choose_template(config, files, adapters.front());
  for (const std::string& folder : adapters) {
    TemplateChoice other = choose_template(config, files, folder);
    if (first.warning.empty()) first.warning = other.warning;
    if (!first.same_as(other))
      throw Error(ErrorKind::usage,
                  fmt::format("the adapters were trained with different templates: {} with {}, {} with {}", adapters.front(), first.text(),
                              folder, other.text()),
                  "give the one to use: --template NAME");
  }
  return first;
}

bool has_template(const TemplateChoice& choice, const ModelText& text) { return choice.name || choice.jinja || text.chat_template; }

ChatFormat open_chat_format(const TemplateChoice& choice, const ModelFiles& files, const ModelText& text) {
  ChatFormat format;
  format.choice = choice;
  if (!text.tokenizer) return format;
  format.special = special_tokens_of(files, *text.tokenizer);
  if (choice.name) {
    format.named = named_template(*choice.name, choice.default_system);
    if (choice.tool_format) use_tool_format(*format.named, *choice.tool_format);
    apply_template_tokens(*format.named, *text.tokenizer, format.special, embedding_rows(files));
    if (format.named->efficient_eos) format.closing = format.special.eos;
  } else {
    if (choice.tool_format) refuse_tool_format(*choice.tool_format);
    format.own = choice.jinja ? open_chat_template(files, *choice.jinja, choice.folder + " (chat template)") : text.chat_template;
  }
  format.stop_ids = format.special.stop;
  // A model that nobody trained in its template ends where its generation_config.json says, as with transformers, and at no other token.
  const bool listed = choice.folder.empty() && files.generation_config && files.generation_config->contains("eos_token_id");
  if (format.own) {
    const EndOfTurn end = end_of_turn(*format.own, *text.tokenizer, format.special.eos);
    if (!listed) format.stop_ids.insert(format.stop_ids.end(), end.stop.begin(), end.stop.end());
    if (end.missing) format.closing = format.special.eos;
  }
  add_eos(format.stop_ids, token_text_of(files.tokenizer_config, "eos_token"), *text.tokenizer);
  add_eos(format.stop_ids, choice.eos_token, *text.tokenizer);
  return format;
}

std::vector<int32_t> ChatFormat::prompt_ids(const Tokenizer& tokenizer, const Conversation& conversation, bool split_special_tokens) const {
  EncodeOptions options;
  options.enable_thinking = choice.enable_thinking;
  options.preserve_thinking = choice.preserve_thinking;
  options.split_special_tokens = split_special_tokens;
  if (named) return encode_prompt(*named, tokenizer, special, conversation, options);
  return encode_prompt(*own, tokenizer, conversation, choice.default_system.value_or(""), options);
}

Example ChatFormat::answered(const Tokenizer& tokenizer, const Conversation& conversation, const std::string& answer,
                             bool split_special_tokens) const {
  Conversation whole = conversation;
  whole.messages.push_back({Role::assistant, answer});
  EncodeOptions options;
  options.enable_thinking = choice.enable_thinking;
  options.preserve_thinking = choice.preserve_thinking;
  options.split_special_tokens = split_special_tokens;
  options.one_turn = true;
  std::vector<Turn> turns;
  if (named) {
    turns = encode_turns(*named, tokenizer, special, whole, options);
  } else {
    nlohmann::ordered_json kwargs = nlohmann::ordered_json::object();
    const auto messages = template_messages(whole, choice.default_system.value_or(""), kwargs);
    turns = chat_template_turns(*own, tokenizer, messages, kwargs, options);
  }
  std::vector<int32_t> ids, labels;
  for (size_t i = 0; i < turns.size(); ++i) {
    const bool last = i + 1 == turns.size();
    for (const auto* part : {&turns[i].source, &turns[i].target}) {
      ids.insert(ids.end(), part->begin(), part->end());
      if (last && part == &turns[i].target) labels.insert(labels.end(), part->begin(), part->end());
      else labels.insert(labels.end(), part->size(), kIgnoreLabel);
    }
  }
  return {std::move(ids), std::move(labels)};
}

}  // namespace loraine
