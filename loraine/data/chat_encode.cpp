// Training examples from the model's own chat template, with masks by position. Called through encode.h.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/encode.h"
#include "loraine/data/trimmed.h"

namespace loraine {
namespace {

using Json = nlohmann::ordered_json;
using Range = std::pair<size_t, size_t>;

std::string content_of(const Json& message) {
  const auto found = message.find("content");
  return found != message.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_assistant(const Json& message) {
  const auto found = message.find("role");
  return found != message.end() && found->is_string() && found->get_ref<const std::string&>() == "assistant";
}

bool starts_with_at(const std::string& text, size_t at, std::string_view part) { return text.compare(at, part.size(), part) == 0; }

// Behind the first special token of text[from, to); none where there is no such token.
std::optional<size_t> behind_special(const Tokenizer& tokenizer, const std::string& text, size_t from, size_t to) {
  const std::string_view part = std::string_view(text).substr(from, to - from);
  for (const int32_t id : tokenizer.encode(part)) {
    const std::string spelling = tokenizer.is_special(id) ? tokenizer.id_to_token(id).value_or("") : "";
    const size_t at = spelling.empty() ? std::string::npos : part.find(spelling);
    if (at != std::string::npos) return from + at + spelling.size();
  }
  return std::nullopt;
}

// One conversation, its whole rendering, and what tells the assistant's turns apart in it.
struct Renderings {
  const ChatTemplate& chat;
  const Tokenizer& tokenizer;
  const Json& messages;
  const Json& kwargs;
  const std::string& text;

  std::string head(size_t count, bool generate) const {
    Json list = Json::array(), with = kwargs;
    for (size_t m = 0; m < count; ++m) list.push_back(messages[m]);
    with["add_generation_prompt"] = generate;
    return chat.render_turns(list, with).text;
  }

  // The turn of message i, from three renderings. Start: the rendering up to the turn with the generation prompt. End: the rendering
  // that includes the turn; where a template writes a last turn differently, the turn's text and what follows it there, or, where that is
  // something else (gpt-oss: <|return|> behind the last answer, <|end|> behind others), up to the first special token behind it.
  std::optional<Range> exact(size_t i) const {
    const std::string before = head(i, true);
    // With the generation prompt the text may go on (an empty thought) where the whole conversation does not: the shared part counts.
    const size_t start = static_cast<size_t>(std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    const std::string bare = head(i, false);
    const bool same_start = start == before.size() || (start >= bare.size() && starts_with_at(text, 0, bare));
    if (!same_start) return std::nullopt;
    const std::string through = i + 1 == messages.size() ? text : head(i + 1, false);
    if (starts_with_at(text, 0, through)) return Range(start, through.size());
    std::string content = content_of(messages[i]);
    if (const size_t thought = content.rfind("</think>"); thought != std::string::npos) content.erase(0, thought + 8);
    content = trimmed(content);
    const size_t here = text.find(content, start), there = through.rfind(content);
    if (content.empty() || here == std::string::npos || there == std::string::npos) return std::nullopt;
    const std::string tail = through.substr(there + content.size());
    const size_t behind = here + content.size();
    if (starts_with_at(text, behind, tail)) return Range(start, behind + tail.size());
    const std::string next = i + 1 < messages.size() ? trimmed(content_of(messages[i + 1])) : "";
    const std::optional<size_t> end =
        behind_special(tokenizer, text, behind, next.empty() ? text.size() : std::min(text.find(next, behind), text.size()));
    return end ? std::optional(Range(start, *end)) : std::nullopt;
  }
};

// What a template writes around one question and its answer, learnt from a turn whose place is known: before the question, between the
// two, behind the answer. A later turn that consists of exactly these parts lies where they say, without rendering anything again.
struct TurnFrame {
  std::string before, between, behind;
  bool trim_question = false, trim_answer = false;
};

bool plain_message(const Json& message, std::string_view role) {
  return message.size() == 2 && message.contains("role") && message["role"] == role && message.contains("content") &&
         message["content"].is_string();
}

std::optional<TurnFrame> learn_frame(const std::string& text, size_t from, Range turn, const std::string& question,
                                     const std::string& answer) {
  TurnFrame frame;
  const auto find_question = [&](const std::string& part) {
    const size_t at = part.empty() ? std::string::npos : text.find(part, from);
    if (at == std::string::npos || at + part.size() > turn.first) return false;
    frame.before = text.substr(from, at - from);
    frame.between = text.substr(at + part.size(), turn.first - at - part.size());
    return true;
  };
  if (!find_question(question)) {
    frame.trim_question = true;
    if (!find_question(trimmed(question))) return std::nullopt;
  }
  const auto find_answer = [&](const std::string& part) {
    if (part.empty() || turn.first + part.size() > turn.second || !starts_with_at(text, turn.first, part)) return false;
    frame.behind = text.substr(turn.first + part.size(), turn.second - turn.first - part.size());
    return true;
  };
  if (!find_answer(answer)) {
    frame.trim_answer = true;
    if (!find_answer(trimmed(answer))) return std::nullopt;
  }
  if (frame.between.empty() || frame.behind.empty()) return std::nullopt;  // nothing would hold a turn in its place
  return frame;
}

std::optional<Range> match_frame(const TurnFrame& frame, const std::string& text, size_t from, const std::string& question,
                                 const std::string& answer) {
  const auto take = [&](const std::string& part) {
    if (!starts_with_at(text, from, part)) return false;
    from += part.size();
    return true;
  };
  if (!take(frame.before) || !take(frame.trim_question ? trimmed(question) : question) || !take(frame.between)) return std::nullopt;
  const size_t start = from;
  if (!take(frame.trim_answer ? trimmed(answer) : answer) || !take(frame.behind)) return std::nullopt;
  return Range(start, from);
}

// Byte ranges of the assistant's turns in `text`. The first, the second and the last answer, and every one that does not look like the one
// before it, are placed by renderings; the others by what is written around them, so that long conversations stay linear.
std::vector<Range> assistant_ranges(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& messages, const Json& kwargs,
                                    const std::string& text) {
  const Renderings renderings{chat, tokenizer, messages, kwargs, text};
  std::vector<Range> ranges;
  std::optional<TurnFrame> frame;
  size_t from = 0, previous = 0;  // end of the last answer; the message behind it
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_assistant(messages[i])) continue;
    const bool regular =
        !ranges.empty() && previous + 1 == i && plain_message(messages[previous], "user") && plain_message(messages[i], "assistant");
    std::optional<Range> range;
    if (regular && frame && i + 2 < messages.size())
      range = match_frame(*frame, text, from, content_of(messages[previous]), content_of(messages[i]));
    if (!range) {
      range = renderings.exact(i);
      if (!range || range->first < from || range->second < range->first)
        throw Error(ErrorKind::bad_data,
                    fmt::format("chat template: where the answer of message {} begins and ends cannot be told from its renderings", i + 1),
                    "put {% generation %} … {% endgeneration %} around the assistant's text in the template, or name a template");
      if (regular) frame = learn_frame(text, from, *range, content_of(messages[previous]), content_of(messages[i]));
    }
    ranges.push_back(*range);
    from = range->second;
    previous = i + 1;
  }
  return ranges;
}

// Places in the text that the tokenizer cannot look across: where a special token begins, with its index among the ids.
struct TextCut {
  size_t byte = 0, token = 0;
};

std::vector<TextCut> special_cuts(const Tokenizer& tokenizer, const std::string& text, const std::vector<int32_t>& ids) {
  std::vector<TextCut> cuts;
  std::map<int32_t, std::string> spelling;  // empty: not special
  size_t from = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    auto [known, added] = spelling.try_emplace(ids[i]);
    if (added && tokenizer.is_special(ids[i])) known->second = tokenizer.id_to_token(ids[i]).value_or("");
    if (known->second.empty()) continue;
    const size_t at = text.find(known->second, from);
    if (at == std::string::npos) return {};  // the text is not what the ids spell
    cuts.push_back({at, i});
    from = at + known->second.size();
  }
  return cuts;
}

// Index of the first token that does not lie wholly before byte `at`; `crossed`: that token began before it. Only the text since the last
// special token before `at` is looked at.
size_t token_at(const Tokenizer& tokenizer, const std::string& text, size_t at, const std::vector<int32_t>& ids,
                const std::vector<TextCut>& cuts, bool split, bool& crossed) {
  crossed = false;
  if (at >= text.size()) return ids.size();
  const auto behind = std::lower_bound(cuts.begin(), cuts.end(), at, [](const TextCut& cut, size_t byte) { return cut.byte < byte; });
  const TextCut cut = behind == cuts.begin() ? TextCut{} : *std::prev(behind);
  const std::string_view before = std::string_view(text).substr(cut.byte, at - cut.byte);
  const auto head = split ? tokenizer.encode_guarded(before) : tokenizer.encode(before);
  size_t same = 0;
  while (same < head.size() && cut.token + same < ids.size() && head[same] == ids[cut.token + same]) ++same;
  crossed = same < head.size();
  return cut.token + same;
}

// What people wrote in a conversation, its roles and kinds left as they are.
void guard_texts(Json& value, const Tokenizer& tokenizer) {
  for (auto& [key, part] : value.items()) {
    if (key == "role" || key == "type") continue;
    if (part.is_string()) part = tokenizer.guard(part.get_ref<const std::string&>());
    else if (part.is_structured()) guard_texts(part, tokenizer);
  }
}

}  // namespace

Json guarded_messages(const Json& messages, const Tokenizer& tokenizer) {
  Json guarded = messages;
  if (guarded.is_structured()) guard_texts(guarded, tokenizer);
  return guarded;
}

std::vector<Turn> chat_template_turns(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& messages, const Json& kwargs,
                                      const EncodeOptions& options) {
  Json with = kwargs.is_object() ? kwargs : Json::object();
  if (!with.contains("add_generation_prompt")) with["add_generation_prompt"] = false;
  if (options.enable_thinking && !with.contains("enable_thinking")) with["enable_thinking"] = *options.enable_thinking;
  const Json guarded = options.split_special_tokens ? guarded_messages(messages, tokenizer) : Json();
  const Json& written = options.split_special_tokens ? guarded : messages;
  const RenderedChat rendered = chat.render_turns(written, with);
  const auto ranges =
      rendered.has_generation_blocks ? rendered.generation : assistant_ranges(chat, tokenizer, written, with, rendered.text);
  const auto ids = options.split_special_tokens ? tokenizer.encode_guarded(rendered.text) : tokenizer.encode(rendered.text);
  const auto cuts = special_cuts(tokenizer, rendered.text, ids);
  std::vector<Turn> turns;
  size_t from = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin >= end) continue;
    bool crossed = false;
    const size_t first = std::max(from, token_at(tokenizer, rendered.text, begin, ids, cuts, options.split_special_tokens, crossed));
    size_t last = token_at(tokenizer, rendered.text, end, ids, cuts, options.split_special_tokens, crossed);
    last = std::clamp(last + (crossed ? 1 : 0), first, ids.size());
    const auto at = [&](size_t i) { return ids.begin() + static_cast<std::ptrdiff_t>(i); };
    turns.push_back({{at(from), at(first)}, {at(first), at(last)}});
    from = last;
  }
  return turns;  // what follows the last answer trains nothing and is left out
}

Encoded encode_with_chat_template(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& messages, const Json& kwargs,
                                  const EncodeOptions& options) {
  const auto turns = chat_template_turns(chat, tokenizer, messages, kwargs, options);
  return assemble_turns(turns, options, std::nullopt);
}

Json template_messages(const Conversation& conversation, const std::string& default_system, Json& kwargs) {
  Json messages = Json::array();
  const std::string& system = conversation.system.empty() ? default_system : conversation.system;
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  const auto parse = [](const std::string& text, const char* what) {
    Json value = Json::parse(text, nullptr, false);
    if (value.is_discarded())
      throw Error(ErrorKind::bad_data, fmt::format("{}: not JSON", what), "write the list of tools or of calls as JSON text");
    return value.is_array() ? value : Json::array({value});
  };
  if (!conversation.tools.empty()) {
    Json tools = Json::array();
    for (const Json& tool : parse(conversation.tools, "tools"))
      tools.push_back(tool.is_object() && tool.contains("function") ? tool : Json{{"type", "function"}, {"function", tool}});
    kwargs["tools"] = std::move(tools);
  }
  for (const Message& message : conversation.messages) {
    switch (message.role) {
      case Role::user: messages.push_back({{"role", "user"}, {"content", message.content}}); break;
      case Role::assistant: messages.push_back({{"role", "assistant"}, {"content", message.content}}); break;
      case Role::observation: messages.push_back({{"role", "tool"}, {"content", message.content}}); break;
      case Role::function: {
        Json calls = Json::array();
        for (const Json& call : parse(message.content, "function call")) calls.push_back({{"type", "function"}, {"function", call}});
        messages.push_back({{"role", "assistant"}, {"content", ""}, {"tool_calls", calls}});
        break;
      }
    }
  }
  return messages;
}

std::vector<int32_t> encode_prompt(const ChatTemplate& chat, const Tokenizer& tokenizer, const Conversation& conversation,
                                   const std::string& default_system, const EncodeOptions& options) {
  Json kwargs = {{"add_generation_prompt", true}};
  if (options.enable_thinking) kwargs["enable_thinking"] = *options.enable_thinking;
  const Json messages = template_messages(conversation, default_system, kwargs);
  if (!options.split_special_tokens) return tokenizer.encode(chat.render(messages, kwargs).text);
  return tokenizer.encode_guarded(chat.render(guarded_messages(messages, tokenizer), kwargs).text);
}

}  // namespace loraine
