// See reply_format.h.
#include "loraine/serve/reply_format.h"

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

std::string stripped(const std::string& text) {
  const size_t first = text.find_first_not_of(" \n"), last = text.find_last_not_of(" \n");
  return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

// The texts of the template that writes a conversation, with tools and without.
std::string template_text(const ChatFormat& format, const ModelFiles& files) {
  if (format.choice.jinja) return *format.choice.jinja;
  std::string text = files.chat_template.value_or("");
  for (const NamedText& one : files.chat_templates)
    if (one.name == "tool_use") text += "\n" + one.text;
  return text;
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

// Whether a Jinja text has this name in it, as a word.
bool has_word(const std::string& text, std::string_view word) {
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_letter(text[at - 1])) && (end == text.size() || !is_letter(text[end]))) return true;
  }
  return false;
}

}  // namespace

void check_reply_parsers(const ReplyParsers& parsers) {
  if (parsers.calls != "auto") call_format(parsers.calls);
  if (parsers.thoughts != "auto" && parsers.thoughts != "none") thought_marks(parsers.thoughts);
}

ReplyFormat reply_format(const ChatFormat& format, const ModelFiles& files, std::shared_ptr<const ResponseTemplate> response_template,
                         const ReplyParsers& parsers) {
  ReplyFormat reply;
  const std::string text = format.named ? std::string() : template_text(format, files);
  if (!format.named && format.own) {
    reply.calls = &call_format_of_template(text);
    reply.thoughts = thought_marks_of_template(text);
    reply.template_tools = has_word(text, "tools");
    if (!format.choice.jinja) reply.response_template = std::move(response_template);
  } else if (format.named) {
    try {
      reply.calls = &call_format(format.named->tool_format);
    } catch (const Error&) { reply.problem = "calls in the form " + format.named->tool_format + ", which the template has, are not read"; }
    if (format.named->kind == TemplateClass::reasoning)
      reply.thoughts = ThoughtMarks{stripped(format.named->open_thought), stripped(format.named->close_thought)};
  }
  if (parsers.calls != "auto") {
    reply.calls = &call_format(parsers.calls);
    reply.response_template = nullptr;
    reply.problem.clear();
    reply.system_tools = !reply.template_tools && reply.calls->form == CallForm::bare_json;
  }
  if (parsers.thoughts == "none") reply.thoughts.reset();
  else if (parsers.thoughts != "auto") reply.thoughts = thought_marks(parsers.thoughts);
  if (parsers.thoughts != "auto") reply.response_template = nullptr;
  if (reply.calls) reply.marks += reply.calls->marks;
  if (reply.thoughts) {
    reply.marks += reply.thoughts->open + reply.thoughts->close;
    if (reply.thoughts->close == "<|end|>") reply.marks += "<|start|><|channel|><|message|>";
  }
  if (reply.response_template) {
    reply.marks += files.tokenizer_config->at("response_template").dump();
    std::erase(reply.marks, '\\');  // of patterns and of JSON
  }
  return reply;
}

bool begins_in_thought(const ReplyReading& reading) {
  return reading.format.thoughts && begins_in_thought(*reading.format.thoughts, reading.prompt);
}

bool begins_behind_thought(const ReplyReading& reading) {
  return reading.format.thoughts && begins_behind_thought(*reading.format.thoughts, reading.prompt);
}

ReplyReader::ReplyReader(const ReplyReading& reading) {
  if (reading.plain()) return;
  if (reading.format.response_template && !reading.enforced) {
    kept_ = reading.format.response_template;
    reader_.emplace<ResponseTemplate::Reader>(*kept_, reading.prompt, reading.tools);
    return;
  }
  reader_.emplace<AnswerReader>(AnswerReader::Options{.calls = reading.reads_calls ? reading.format.calls : nullptr,
                                                      .tools = reading.tools,
                                                      .thoughts = reading.format.thoughts,
                                                      .in_thought = begins_in_thought(reading),
                                                      .in_pieces = reading.in_pieces});
}

AnswerPart ReplyReader::push(std::string_view text) {
  if (auto* reader = std::get_if<AnswerReader>(&reader_)) return reader->push(text);
  if (auto* reader = std::get_if<ResponseTemplate::Reader>(&reader_)) return reader->push(text);
  return {.reasoning = {}, .content = std::string(text), .calls = {}, .pieces = {}};
}

AnswerPart ReplyReader::finish() {
  if (auto* reader = std::get_if<AnswerReader>(&reader_)) return reader->finish();
  if (auto* reader = std::get_if<ResponseTemplate::Reader>(&reader_)) return reader->finish();
  return {};
}

bool ReplyReader::in_thought() const {
  if (const auto* reader = std::get_if<AnswerReader>(&reader_)) return reader->in_thought();
  if (const auto* reader = std::get_if<ResponseTemplate::Reader>(&reader_)) return reader->in_thought();
  return false;
}

}  // namespace loraine
