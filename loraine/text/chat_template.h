// A model's own Jinja chat template, rendered as transformers configures Jinja2. Used by data (training), chat, tokenize and serving.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace loraine {

struct RenderedChat {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generation;  // byte ranges [begin, end) inside {% generation %} blocks
  bool has_generation_blocks = false;                 // whether the template has such blocks at all
};

class ChatTemplate {
 public:
  // special_tokens: bos_token, eos_token, … as in tokenizer_config.json (an object; values are strings or {"content": …}).
  ChatTemplate(const std::string& source, const nlohmann::ordered_json& special_tokens, const std::string& file);
  ~ChatTemplate();
  // The template that transformers takes where kwargs has tools (the one named tool_use).
  void set_tools_template(const std::string& source, const std::string& file);
  // messages: array of {"role", "content", …}; kwargs: add_generation_prompt, continue_final_message, tools, documents and the template's
  // own. Throws Error::bad_data with the template's message (raise_exception), line, and limits on steps, nesting and output.
  RenderedChat render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& kwargs) const;
  // The same without unasked_header at its end, where add_generation_prompt is not set: the turns alone, for whoever trains on them.
  RenderedChat render_turns(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& kwargs) const;
  // The head of an answer that a template without add_generation_prompt writes behind every conversation, as Llama 3's first one does: its
  // generation prompt. Empty for others.
  const std::string& unasked_header() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace loraine
