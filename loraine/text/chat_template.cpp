// ChatTemplate over the Jinja engine: the variables transformers gives a template, generation spans, continue_final_message.
#include "loraine/text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>

#include "loraine/text/jinja/eval.h"

namespace loraine {

using OrderedJson = nlohmann::ordered_json;

struct ChatTemplate::State {
  struct Source {
    jinja::Template parsed;
    std::string file;
    bool asks_for_prompt = false;  // the text speaks of add_generation_prompt
  };
  Source source;
  std::optional<Source> with_tools;
  OrderedJson special_tokens = OrderedJson::object();
  std::mutex headers_guard;
  std::map<std::string, std::string> unasked_headers;  // by what is said beside the messages

  // The head that `chat`, whose state this is, writes behind a conversation with `kwargs` unasked.
  const std::string& header(const ChatTemplate& chat, const OrderedJson& kwargs);

  const Source& source_for(const OrderedJson& kwargs) const {
    const auto tools = kwargs.find("tools");
    return with_tools && tools != kwargs.end() && !tools->is_null() ? *with_tools : source;
  }
};

namespace {

const std::string kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

[[noreturn]] void rethrow(const jinja::JinjaError& error, const std::string& file, bool reading = false) {
  std::string where = error.line > 0 ? fmt::format("{}: line {}: ", file, error.line) : file + ": ";
  std::string kind = error.type == "TemplateError" ? "" : error.type + ": ";
  const char* hint = reading                         ? "the template itself is broken; correct it"
                     : error.type == "TemplateError" ? "the chat template refuses these messages; change them or the template"
                                                     : "check the messages against what the chat template expects";
  throw Error(ErrorKind::bad_data, where + kind + error.what(), hint);
}

jinja::Template parse(const std::string& source, const std::string& file) {
  try {
    return jinja::parse(source);
  } catch (const jinja::JinjaError& error) { rethrow(error, file, true); }
}

// Of tokens that are given as texts or as {"content": …}.
OrderedJson spellings(const OrderedJson& tokens) {
  OrderedJson texts = OrderedJson::array();
  for (const OrderedJson& token : tokens) texts.push_back(token.is_object() && token.contains("content") ? token["content"] : token);
  return texts;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_data, "chat template: " + message, "check the messages");
}

// What transformers does to messages before a template sees them: no keys that are none; reasoning under the names templates read.
OrderedJson prepare_messages(const OrderedJson& messages) {
  if (!messages.is_array()) refuse("messages must be a list");
  OrderedJson out = OrderedJson::array();
  for (const OrderedJson& message : messages) {
    if (!message.is_object()) {
      out.push_back(message);
      continue;
    }
    OrderedJson clean = OrderedJson::object();
    for (auto it = message.begin(); it != message.end(); ++it)
      if (!it.value().is_null()) clean[it.key()] = it.value();
    for (const char* key : {"reasoning_content", "thinking", "reasoning"}) {
      if (!clean.contains(key)) continue;
      OrderedJson reasoning = clean[key];
      if (!clean.contains("reasoning_content")) clean["reasoning_content"] = reasoning;
      if (!clean.contains("thinking")) clean["thinking"] = reasoning;
      break;
    }
    out.push_back(std::move(clean));
  }
  return out;
}

// Appends the tag to the text that is to be continued; gives that text without it.
std::string mark_final_message(OrderedJson& messages, const std::string& field) {
  if (messages.empty()) refuse("continue_final_message needs a last message, found none");
  OrderedJson& last = messages.back();
  if (!last.is_object() || !last.contains(field)) refuse("continue_final_message: the last message has no \"" + field + "\"");
  OrderedJson& content = last[field];
  if (content.is_string()) {
    auto text = content.get<std::string>();
    content = text + kContinueTag;
    return text;
  }
  if (content.is_array())
    for (auto part = content.rbegin(); part != content.rend(); ++part)
      if (part->is_object() && part->contains("text") && (*part)["text"].is_string()) {
        auto text = (*part)["text"].get<std::string>();
        (*part)["text"] = text + kContinueTag;
        return text;
      }
  refuse("continue_final_message: the last message has no text to continue");
}

void cut_at_tag(RenderedChat& chat, const std::string& final_text) {
  std::string tag(jinja::strip(kContinueTag, true, true)), wanted(jinja::strip(final_text, true, true));
  size_t at = chat.text.rfind(tag);
  if (at == std::string::npos || chat.text.find(wanted) == std::string::npos)
    refuse("continue_final_message is set but the final message does not appear in the rendered chat");
  bool space_kept = chat.text.compare(at, kContinueTag.size(), kContinueTag) == 0;
  chat.text.resize(at);
  if (!space_kept) chat.text.resize(jinja::strip(chat.text, false, true).size());
  std::erase_if(chat.generation, [&](const auto& span) { return span.first >= chat.text.size(); });
  for (auto& span : chat.generation) span.second = std::min(span.second, chat.text.size());
}

// now: "2026-02-03T04:05:06", the time strftime_now sees.
std::tm parse_now(const std::string& text) {
  std::tm time{};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (end == nullptr || *end != '\0') refuse("now: found \"" + text + "\", expected YYYY-MM-DDTHH:MM:SS");
  std::tm utc = time;
  timegm(&utc);  // fills the day of the week and of the year
  time.tm_wday = utc.tm_wday;
  time.tm_yday = utc.tm_yday;
  return time;
}

size_t same_start(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}
size_t same_end(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin());
}

// From three conversations: what stands behind a question, behind its answer, and between that and the next question. Behind the answer its
// end is followed by the header, between the two by the head of a question, which stands before the first question too. Where the header
// and the head of a question begin alike (<|START_OF_TURN_TOKEN|>), or the ends of an answer and of what precedes the first question are
// alike, several places may be where the end ends: a conversation begins as a turn does.
std::string find_unasked_header(const ChatTemplate& chat, const OrderedJson& kwargs, const OrderedJson& bos) {
  const std::string question = "q7Fz", answer = "a2Kw", next = "n9Xd";
  const auto render = [&](size_t count) {
    const OrderedJson all = OrderedJson::array(
        {{{"role", "user"}, {"content", question}}, {{"role", "assistant"}, {"content", answer}}, {{"role", "user"}, {"content", next}}});
    return chat.render(OrderedJson(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)), kwargs).text;
  };
  const auto behind = [](const std::string& text, const std::string& content) {
    const size_t at = text.rfind(content);
    return at == std::string::npos ? std::string() : text.substr(at + content.size());
  };
  const std::string asked = render(1), answered = render(2), asked_again = render(3);
  const std::string tail = behind(answered, answer);
  const size_t next_at = asked_again.rfind(next), question_at = asked.find(question);
  if (tail.empty() || next_at == std::string::npos || question_at == std::string::npos) return "";
  const std::string between = behind(asked_again.substr(0, next_at), answer);
  std::string before = asked.substr(0, question_at);
  if (bos.is_string() && before.starts_with(bos.get<std::string>())) before.erase(0, bos.get<std::string>().size());
  size_t end = std::string::npos, best = 0;
  for (size_t at = between.size() - same_end(between, before); at <= same_start(between, tail); ++at)
    if (const size_t alike = same_start(std::string_view(between).substr(at), before); alike > best) end = at, best = alike;
  if (end == std::string::npos || end >= tail.size()) return "";
  const std::string header = tail.substr(end);
  // It stands behind a question that is not answered, and an answer begins as it does.
  if (!asked.ends_with(header)) return "";
  const size_t header_at = asked.size() - header.size();
  const size_t shared = same_start(std::string_view(answered).substr(std::min(header_at, answered.size())), header);
  return answered.starts_with(asked.substr(0, header_at)) && shared > 0 ? header : "";
}

}  // namespace

const std::string& ChatTemplate::State::header(const ChatTemplate& chat, const OrderedJson& kwargs) {
  static const std::string none;
  if (source_for(kwargs).asks_for_prompt) return none;
  OrderedJson said = OrderedJson::object();  // not which tools there are: that there are some
  for (const auto& [key, value] : kwargs.items()) said[key] = value.is_structured() ? OrderedJson(true) : value;
  const std::string key = said.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  {
    const std::lock_guard lock(headers_guard);
    if (const auto known = unasked_headers.find(key); known != unasked_headers.end()) return known->second;
  }
  std::string header;
  try {
    header = find_unasked_header(chat, kwargs, special_tokens.value("bos_token", OrderedJson()));
  } catch (const Error&) {}  // a template that refuses a plain conversation has none
  const std::lock_guard lock(headers_guard);
  return unasked_headers.try_emplace(key, header).first->second;
}

ChatTemplate::ChatTemplate(const std::string& source, const nlohmann::ordered_json& special_tokens, const std::string& file)
    : state_(std::make_unique<State>()) {
  state_->source = {parse(source, file), file, source.find("add_generation_prompt") != std::string::npos};
  if (!special_tokens.is_object()) return;
  for (auto it = special_tokens.begin(); it != special_tokens.end(); ++it) {
    if (it.value().is_string()) state_->special_tokens[it.key()] = it.value();
    else if (it.value().is_object() && it.value().contains("content")) state_->special_tokens[it.key()] = it.value()["content"];
    else if (it.key() == "additional_special_tokens" && it.value().is_array()) state_->special_tokens[it.key()] = spellings(it.value());
  }
}

ChatTemplate::~ChatTemplate() = default;

void ChatTemplate::set_tools_template(const std::string& source, const std::string& file) {
  state_->with_tools = State::Source{parse(source, file), file, source.find("add_generation_prompt") != std::string::npos};
}

RenderedChat ChatTemplate::render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& kwargs) const {
  if (!messages.is_array() || messages.empty()) refuse("found an empty conversation, expected at least one message");
  OrderedJson context = state_->special_tokens;
  context["tools"] = nullptr;
  context["documents"] = nullptr;
  context["add_generation_prompt"] = false;
  jinja::RenderOptions options;
  std::string continued;
  for (auto it = kwargs.begin(); it != kwargs.end(); ++it) {
    if (it.key() == "strftime_now" && it.value().is_string()) options.now = parse_now(it.value().get<std::string>());
    else if (it.key() != "continue_final_message") context[it.key()] = it.value();
    else if (it.value().is_string()) continued = it.value().get<std::string>();
    else if (it.value().is_boolean() && it.value().get<bool>()) continued = "content";
  }
  const OrderedJson& prompt = context["add_generation_prompt"];
  if (!continued.empty() && prompt.is_boolean() && prompt.get<bool>())
    refuse(
        "continue_final_message and add_generation_prompt exclude each other; the final message cannot be continued and followed by a new "
        "one");
  OrderedJson prepared = prepare_messages(messages);
  std::string final_text;
  if (!continued.empty()) final_text = mark_final_message(prepared, continued);
  context["messages"] = std::move(prepared);
  const State::Source& source = state_->source_for(context);
  RenderedChat chat;
  chat.has_generation_blocks = source.parsed.has_generation;
  try {
    jinja::Rendered rendered = jinja::render(source.parsed, context, options);
    chat.text = std::move(rendered.text);
    chat.generation = std::move(rendered.generation);
  } catch (const jinja::JinjaError& error) { rethrow(error, source.file); }
  if (!continued.empty()) cut_at_tag(chat, final_text);
  return chat;
}

RenderedChat ChatTemplate::render_turns(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& kwargs) const {
  RenderedChat chat = render(messages, kwargs);
  const auto asked = kwargs.find("add_generation_prompt");
  if (asked != kwargs.end() && asked->is_boolean() && asked->get<bool>()) return chat;
  const std::string& header = state_->header(*this, kwargs);
  if (header.empty() || !chat.text.ends_with(header)) return chat;
  chat.text.resize(chat.text.size() - header.size());
  for (auto& span : chat.generation) span.second = std::min(span.second, chat.text.size());
  return chat;
}

const std::string& ChatTemplate::unasked_header() const { return state_->header(*this, OrderedJson::object()); }

}  // namespace loraine
