// LLaMA-Factory's named chat templates as slots, and the slots derived from a model's own Jinja template. Used by encode, dataset and chat.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

enum class SlotKind : uint8_t { none, text, bos, eos, token };  // token: one token by its spelling, whatever the text would be cut into
struct Slot {
  SlotKind kind = SlotKind::none;
  std::string text;  // may hold {{content}}; tokenised alone, so merges never cross a slot's border
};

enum class TemplateClass : uint8_t {
  plain,
  llama2,     // the system text goes inside the first user slot
  reasoning,  // answers without thoughts get empty ones
};

struct Template {
  std::string name;
  TemplateClass kind = TemplateClass::plain;
  std::vector<Slot> prefix, system, user, assistant, function, observation;
  std::string tool_format = "default";
  std::string default_system;
  std::vector<std::string> stop_words;
  std::string open_thought = "<think>\n", close_thought = "\n</think>\n\n",
              empty_thought = "<think>\n\n</think>\n\n";  // of the reasoning class
  bool efficient_eos = false, replace_eos = false;
  bool replaces_jinja = false;  // its name stands for a format of its own, which takes the place of the model's chat template
  std::optional<bool> enable_thinking = true;  // used by the reasoning class
};

// Special tokens of a model, from tokenizer_config.json; a template may change eos.
struct SpecialTokens {
  std::optional<int32_t> bos, eos, pad, unk;
  std::vector<int32_t> stop;  // ids that end an answer: eos and the template's stop words
};
SpecialTokens read_special_tokens(const nlohmann::ordered_json& tokenizer_config, const Tokenizer& tokenizer);

std::vector<std::string> template_names();
[[noreturn]] void refuse_tool_format(const std::string& format);  // where no template is named
// As LLaMA-Factory's tool_format: calls end with the end token, whatever the template has behind its answers. Throws usage for an unknown
// one.
void use_tool_format(Template& chat, const std::string& format);
// Throws usage with the nearest names. default_system, where given, stands in the place of the template's own.
Template named_template(const std::string& name, const std::optional<std::string>& default_system = {});

// The tokens of its own that a template writes around system text, question and answer (<|im_start|>, <start_of_turn>) and the tokenizer
// lacks. A template without stop words has none: what it writes is plain text.
std::vector<std::string> missing_tokens(const Template& chat, const Tokenizer& tokenizer);
// The named templates with tokens of their own, all of which the tokenizer has; a few of them.
std::vector<std::string> fitting_templates(const Tokenizer& tokenizer);

// LLaMA-Factory's `template: null`: slots cut out of renderings of the model's own template.
// An unasked_header ends no answer here; `header_in_answers`: it does, as in LLaMA-Factory.
Template derive_template(const ChatTemplate& chat_template, const Tokenizer& tokenizer, bool header_in_answers = false);

// replace_eos, missing eos and pad, stop words as special tokens: as LLaMA-Factory does before it encodes. rows: those of the model's
// embedding (0: as many as needed). A token beyond them is refused where the template writes it, else left out: it can never be said.
void apply_template_tokens(const Template& chat, Tokenizer& tokenizer, SpecialTokens& special, int64_t rows = 0);

}  // namespace loraine
