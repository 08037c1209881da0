// How a conversation becomes ids, and why so: with the template that was asked for, else the one an adapter was trained with, else the
// model's own. Called by load_for_answers (chat, eval, ChatModel), train and export.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/api/open_text.h"
#include "loraine/data/encode/encode.h"
#include "loraine/io/training_record.h"
#include "loraine/train/config/config.h"

namespace loraine {

// Which template counts. With neither a name nor a Jinja text it is the model's own.
struct TemplateChoice {
  std::optional<std::string> name;       // a named template
  std::optional<std::string> jinja;      // the adapter's chat_template.jinja, where it is not the model's,
  std::optional<std::string> eos_token;  // and what ends an answer there
  std::optional<std::string> default_system;
  std::optional<bool> enable_thinking;
  std::optional<std::string> tool_format;  // of the named template, instead of its own
  bool preserve_thinking = false;
  std::string folder;        // of the adapter or the trained model that it is from; empty: as given, or the model's own
  std::string why;           // "as given", "the adapter's", "the model's own"
  std::string warning;       // the one that was asked for is not the one the adapter was trained with; empty: nothing to say
  std::string text() const;  // "alpaca (the adapter's)"
  bool same_as(const TemplateChoice& other) const;  // whether conversations become the same ids
};

// adapter: its folder, or empty for the base. Reads the adapter's record and chat_template.jinja only.
TemplateChoice choose_template(const TrainConfig& config, const ModelFiles& files, const std::string& adapter);
// For several adapters and one template, as export and eval have them: theirs, where it is the same. Throws usage when they were trained
// with different ones and none is asked for.
TemplateChoice choose_template(const TrainConfig& config, const ModelFiles& files, const std::vector<std::string>& adapters);

// Whether the model brings a chat template, or the choice does.
bool has_template(const TemplateChoice& choice, const ModelText& text);

struct ChatFormat {
  TemplateChoice choice;
  std::optional<Template> named;
  std::shared_ptr<const ChatTemplate> own;  // where none is named; nullptr: there is no template at all
  SpecialTokens special;
  std::optional<int32_t> closing;  // put behind the last answer in training, where the template writes no end of it
  std::vector<int32_t> stop_ids;   // what ends an answer, beside what config.json and generation_config.json name

  // Of a conversation that ends with a question.
  std::vector<int32_t> prompt_ids(const Tokenizer& tokenizer, const Conversation& conversation, bool split_special_tokens) const;
  // The answer is labelled, the prompt is not.
  Example answered(const Tokenizer& tokenizer, const Conversation& conversation, const std::string& answer,
                   bool split_special_tokens) const;
};

// What to say of a template that was asked for and writes tokens which the tokenizer lacks: a base cannot know it. None for others. Where
// it is only a warning, because something is to be trained with it or was, kSpelled follows.
constexpr const char* kSpelled = ": they are spelled in pieces, or become new tokens";
std::optional<Error> unfit_template(const TemplateChoice& choice, const ModelText& text);

// The choice as what encodes. The tokenizer gets the template's tokens; those that the embedding has no row for are refused by name.
// Nothing is read from the weights.
ChatFormat open_chat_format(const TemplateChoice& choice, const ModelFiles& files, const ModelText& text);

}  // namespace loraine
