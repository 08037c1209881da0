// Renderings of the conversation up to each answer, and where those do not fit, of the conversation with one message changed.
#include "loraine/data/encode/answer_ranges.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "loraine/core/error.h"
#include "loraine/data/encode/trimmed.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Range = std::pair<size_t, size_t>;

std::string content_of(const OrderedJson& message) {
  const auto found = message.find("content");
  return found != message.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_assistant(const OrderedJson& message) {
  const auto found = message.find("role");
  return found != message.end() && found->is_string() && found->get_ref<const std::string&>() == "assistant";
}

// Of the first call of tools in a message; empty where there is none.
std::string called_name(const OrderedJson& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->is_array() || calls->empty()) return "";
  const OrderedJson function = calls->front().value("function", OrderedJson());
  return function.is_object() && function.contains("name") && function["name"].is_string() ? function["name"].get<std::string>() : "";
}

bool starts_with_at(const std::string& text, size_t at, std::string_view part) { return text.compare(at, part.size(), part) == 0; }

// Letters that two texts have in common at their beginning, and at their end.
size_t same_start(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}
size_t same_end(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin());
}

// Where the head of an answer ends that goes on otherwise at `at`: not within a mark (<think>, <tool_call>) that began behind `from`.
size_t before_mark(const std::string& text, size_t from, size_t at) {
  const size_t open = at > from ? text.find_last_of("<[", at - 1) : std::string::npos;
  if (open == std::string::npos || open < from) return at;
  return text.find_first_of(">]", open) < at ? at : open;
}

// A text of other words; JSON stays JSON with the same keys, as calls of tools and their results may have to be.
std::string other_text(const std::string& text);

// Every value within becomes another one of its type: texts, numbers, yes and no.
void change_values(OrderedJson& value) {
  if (value.is_string()) value = other_text(value.get_ref<const std::string&>());
  else if (value.is_boolean()) value = !value.get<bool>();
  else if (value.is_number()) value = value == OrderedJson(7) ? 8 : 7;
  else if (value.is_structured())
    for (auto& [key, part] : value.items())
      if (!value.is_object() || key != "type") change_values(part);  // of a part of a text
}

std::string other_text(const std::string& text) {
  if (text.empty()) return text;  // a call of tools has none
  if (text.front() == '{' || text.front() == '[')
    if (OrderedJson parsed = OrderedJson::parse(text, nullptr, false); parsed.is_structured()) {
      change_values(parsed);
      return parsed.dump();
    }
  return text == "Other words" ? "These words" : "Other words";
}

// The messages with other words in message i: its texts and the arguments of its calls; where it has neither, the names of what it calls,
// else a text where it has an empty one.
OrderedJson with_other_words(const OrderedJson& messages, size_t i) {
  OrderedJson changed = messages;
  OrderedJson& message = changed[i];
  for (auto& [key, value] : message.items()) {
    if (key == "role" || key == "name" || key == "tool_call_id" || key == "tool_calls") continue;
    change_values(value);
  }
  const auto calls = message.find("tool_calls");
  const auto functions = [&](const char* key, auto change) {
    if (calls == message.end() || !calls->is_array()) return;
    for (OrderedJson& call : *calls)
      if (call.is_object() && call.contains("function") && call["function"].is_object() && call["function"].contains(key))
        change(call["function"][key]);
  };
  functions("arguments", change_values);
  if (changed == messages) functions("name", change_values);
  if (changed == messages && message.contains("content") && message["content"] == "") message["content"] = "Other words";
  return changed;
}

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
  const OrderedJson& messages;
  const OrderedJson& kwargs;
  std::string text = {}, closing = {};  // closing: what the template writes behind every conversation, which no text here has

  // The first `count` messages of a list.
  std::string rendered(const OrderedJson& list, size_t count, bool generate) const {
    std::string made = written(list, count, generate);
    if (closing.empty()) return made;
    const std::string ended = generate ? written(list, count, false) : made;  // the head of an answer comes behind it
    if (!ended.ends_with(closing) || !made.starts_with(ended)) return made;
    return made.erase(ended.size() - closing.size(), closing.size());
  }
  std::string written(const OrderedJson& list, size_t count, bool generate) const {
    OrderedJson first = OrderedJson::array(), with = kwargs;
    for (size_t m = 0; m < count; ++m) first.push_back(list[m]);
    with["add_generation_prompt"] = generate;
    return chat.render_turns(first, with).text;
  }

  // A turn of the template's own behind the last message, whatever that is (Command R+'s instruction for calls): what the rendering ends
  // with in common with that of other words and of one message less, from a special token on that is not the mark it ends with itself.
  void find_closing(const std::string& whole) {
    text = whole;
    constexpr size_t kLongestMark = 64;  // behind an answer: no turn is as short
    if (messages.size() < 2) return;
    const std::string last = trimmed(content_of(messages.back()));
    if (const size_t at = last.empty() ? std::string::npos : whole.rfind(last);
        at != std::string::npos && whole.size() - at - last.size() < kLongestMark)
      return;
    size_t same = 0;
    try {
      same = std::min(same_end(whole, written(messages, messages.size() - 1, false)),
                      same_end(whole, written(with_other_words(messages, messages.size() - 1), messages.size(), false)));
    } catch (const Error&) { return; }  // the template takes neither
    const std::string common = whole.substr(whole.size() - same);
    std::vector<std::pair<size_t, std::string>> specials;  // in it, with their places
    size_t at = 0;
    for (const int32_t id : tokenizer.encode(common)) {
      const std::string spelling = tokenizer.is_special(id) ? tokenizer.id_to_token(id).value_or("") : "";
      const size_t found = spelling.empty() ? std::string::npos : common.find(spelling, at);
      if (found == std::string::npos) continue;
      specials.emplace_back(found, spelling);
      at = found + spelling.size();
    }
    const auto opens = std::ranges::find_if(specials, [&](const auto& one) { return one.second != specials.back().second; });
    if (opens == specials.end() || !trimmed(common.substr(at)).empty()) return;
    std::string words;  // of it that are no special tokens
    for (auto one = opens; one + 1 != specials.end(); ++one)
      words += common.substr(one->first + one->second.size(), (one + 1)->first - one->first - one->second.size());
    if (trimmed(words).empty()) return;
    closing = common.substr(opens->first);
    text.erase(text.size() - closing.size());
  }
  std::string head(size_t count, bool generate) const { return rendered(messages, count, generate); }

  // The turn of message i, from three renderings. Start: the rendering up to the turn with the generation prompt. End: the rendering
  // that includes the turn; where a template writes a last turn differently, the turn's text and what follows it there, or, where that is
  // something else (gpt-oss: <|return|> behind the last answer, <|end|> behind others), up to the first special token behind it.
  std::optional<Range> exact(size_t i) const {
    const std::string before = head(i, true);
    // With the generation prompt the text may go on (an empty thought) where the whole conversation does not: the shared part counts.
    size_t start = same_start(before, text);
    const std::string bare = head(i, false);
    const bool fits = start == before.size() || (start >= bare.size() && starts_with_at(text, 0, bare));
    if (!fits) return std::nullopt;
    if (start < before.size()) start = before_mark(text, bare.size(), start);
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

  // The same where what precedes message i is written otherwise in a longer conversation (Mistral's templates put the system text and the
  // tools before the last question, Qwen 3's drop earlier thoughts), or message i has no text of its own: what is written around a message
  // begins and ends where a change of its words does. Behind the message before it comes the head of the answer, as it stands in the
  // rendering up to there; behind the message its end, in the same way.
  std::optional<Range> by_change_where_taken(size_t i) const {
    try {
      return by_change(i);
    } catch (const Error&) { return std::nullopt; }  // the template refuses other words
  }
  std::optional<Range> by_change(size_t i) const {
    if (i == 0) return std::nullopt;
    const OrderedJson other_before = with_other_words(messages, i - 1), other = with_other_words(messages, i);
    const std::string text_before = rendered(other_before, messages.size(), false), text_other = rendered(other, messages.size(), false);
    if (text_before == text || text_other == text) return std::nullopt;  // it is not written at all

    const size_t before_end = text.size() - same_end(text, text_before);
    const std::string asked = head(i, true), bare = head(i, false);
    const std::string prompt = asked.substr(asked.size() - same_end(asked, rendered(other_before, i, true)));
    const size_t least = same_end(bare, rendered(other_before, i, false));
    size_t start = before_end;
    const std::string_view rest = std::string_view(text).substr(before_end);
    const size_t shared = same_start(prompt, rest);
    if (shared == prompt.size() || shared >= least) {
      start += shared;
      if (shared < prompt.size()) start = before_mark(text, before_end + least, start);
    } else {  // the end of the message before is written otherwise too (Hermes: a line end); the head of the answer is not
      const std::string header = asked.starts_with(bare) ? asked.substr(bare.size()) : "";
      const size_t at = header.empty() ? std::string::npos : text.find(header, before_end);
      if (at == std::string::npos || at + header.size() > same_start(text, text_other)) return std::nullopt;
      start = at + header.size();
    }

    const size_t behind = text.size() - same_end(text, text_other);
    const bool last = i + 1 == messages.size();
    const std::string through = last ? text : head(i + 1, false);
    const std::string tail = through.substr(through.size() - same_end(through, last ? text_other : rendered(other, i + 1, false)));
    if (starts_with_at(text, behind, tail)) return Range(start, behind + tail.size());
    const std::string next = trimmed(content_of(messages[i + 1]));
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

bool plain_message(const OrderedJson& message, std::string_view role) {
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

}  // namespace

// The first, the second and the last answer, and every one that does not look like the one before it, are placed by renderings; the others
// by what is written around them, so that long conversations stay linear.
std::vector<Range> assistant_ranges(const ChatTemplate& chat, const Tokenizer& tokenizer, const OrderedJson& messages,
                                    const OrderedJson& kwargs, const std::string& whole) {
  Renderings renderings{chat, tokenizer, messages, kwargs};
  renderings.find_closing(whole);
  const std::string& text = renderings.text;
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
      const auto good = [&] { return range && range->first >= from && range->second >= range->first; };
      range = renderings.exact(i);
      if (!good()) range = renderings.by_change_where_taken(i);
      if (!good())
        throw Error(ErrorKind::bad_data,
                    fmt::format("chat template: where the answer of message {} begins and ends cannot be told from its renderings", i + 1),
                    "put {% generation %} … {% endgeneration %} around the assistant's text in the template, or name a template");
      if (regular) frame = learn_frame(text, from, *range, content_of(messages[previous]), content_of(messages[i]));
    }
    if (const std::string name = called_name(messages[i]);
        text.substr(range->first, range->second - range->first).find(name) == std::string::npos)
      throw Error(ErrorKind::bad_data, fmt::format("chat template: it writes nothing of the call of {} in message {}", name, i + 1),
                  "name a template that knows calls of tools, or leave such rows out");
    ranges.push_back(*range);
    from = range->second;
    previous = i + 1;
  }
  return ranges;
}

}  // namespace loraine
