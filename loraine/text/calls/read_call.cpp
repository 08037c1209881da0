// See read_call.h. A form is read from left to right; what it says of a text never depends on where pieces of the text were cut.
#include "loraine/text/calls/read_call.h"

#include <string>

#include "loraine/core/python_json.h"
#include "loraine/text/calls/gemma_arguments.h"
#include "loraine/text/calls/python_call.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Calls = std::vector<ToolCall>;
enum class Got : uint8_t { yes, more, no };

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

struct Cursor {
  std::string_view text;
  size_t at = 0;

  std::string_view rest() const { return text.substr(at); }
  void blanks() {
    while (at < text.size() && is_blank(text[at])) ++at;
  }
  Got take(std::string_view word) {
    if (rest().starts_with(word)) return at += word.size(), Got::yes;
    return word.starts_with(rest()) ? Got::more : Got::no;
  }
  // Up to the word, which is taken too.
  Got up_to(std::string_view word, std::string_view& out) {
    const size_t found = text.find(word, at);
    if (found == std::string_view::npos) return Got::more;
    out = text.substr(at, found - at);
    at = found + word.size();
    return Got::yes;
  }
  // A list or an object.
  Got json(OrderedJson& out) {
    blanks();
    if (at == text.size()) return Got::more;
    if (text[at] != '{' && text[at] != '[') return Got::no;
    int depth = 0;
    bool inside = false;
    for (size_t i = at; i < text.size(); ++i) {
      const char c = text[i];
      if (inside && c == '\\') ++i;
      else if (c == '"') inside = !inside;
      else if (!inside && (c == '{' || c == '[')) ++depth;
      else if (!inside && (c == '}' || c == ']') && --depth == 0) {
        out = json_within_limits(text.substr(at, i + 1 - at));
        at = i + 1;
        return out.is_discarded() ? Got::no : Got::yes;
      }
    }
    return Got::more;
  }
};

#define LORAINE_NEED(step)             \
  do {                                 \
    const Got got_ = (step);           \
    if (got_ != Got::yes) return got_; \
  } while (false)

// The last marker of a form: at the end of the answer it may be missing.
Got last(Cursor& c, std::string_view word, bool at_end) {
  c.blanks();
  const Got got = c.take(word);
  if (got == Got::more && at_end) return c.at = c.text.size(), Got::yes;
  return got;
}

bool is_called_name(std::string_view name) {
  return !name.empty() && name.size() <= 256 && name.find_first_of(" \t\r\n\"'{}[]()<>") == std::string_view::npos;
}

// {"name": …, "arguments" or "parameters": …}; the arguments may also be JSON in a text, or absent.
bool add_object(const OrderedJson& object, Calls& out) {
  if (!object.is_object() || !object.contains("name") || !object["name"].is_string()) return false;
  const std::string name = object["name"].get<std::string>();
  if (!is_called_name(name)) return false;
  const auto given = object.contains("arguments") ? object.find("arguments") : object.find("parameters");
  OrderedJson arguments = given == object.end() ? OrderedJson::object() : *given;
  if (arguments.is_string()) arguments = json_within_limits(arguments.get_ref<const std::string&>());
  if (arguments.is_null()) arguments = OrderedJson::object();
  if (!arguments.is_object()) return false;
  if (given == object.end() && object.size() > 1) return false;  // some other object that has a name
  out.push_back({name, python_json(arguments)});
  return true;
}

bool add_objects(const OrderedJson& value, Calls& out) {
  if (!value.is_array()) return add_object(value, out);
  for (const OrderedJson& object : value)
    if (!add_object(object, out)) return false;
  return !value.empty();
}

Got tagged_json(Cursor& c, bool at_end, Calls& out) {
  OrderedJson value;
  LORAINE_NEED(c.take("<tool_call>"));
  LORAINE_NEED(c.json(value));
  if (!add_objects(value, out)) return Got::no;
  return last(c, "</tool_call>", at_end);
}

// A value in tags: without the one newline at either end.
std::string_view between_lines(std::string_view text) {
  if (text.starts_with('\n')) text.remove_prefix(1);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

Got function_tags(Cursor& c, bool at_end, const ToolTypes& types, Calls& out) {
  const bool tagged = c.rest().starts_with("<tool_call>");
  if (tagged) c.at += std::string_view("<tool_call>").size();
  c.blanks();
  std::string_view name, key, value;
  LORAINE_NEED(c.take("<function="));
  LORAINE_NEED(c.up_to(">", name));
  if (!is_called_name(trimmed(name))) return Got::no;
  name = trimmed(name);
  OrderedJson arguments = OrderedJson::object();
  for (;;) {
    c.blanks();
    Got got = c.take("<parameter=");
    if (got == Got::more && !std::string_view("</function>").starts_with(c.rest())) return got;
    if (got == Got::yes) {
      LORAINE_NEED(c.up_to(">", key));
      LORAINE_NEED(c.up_to("</parameter>", value));
      arguments[std::string(trimmed(key))] = types.value(name, trimmed(key), between_lines(value));
      continue;
    }
    got = last(c, "</function>", at_end && !tagged);
    if (got != Got::yes) return got;
    break;
  }
  out.push_back({std::string(name), python_json(arguments)});
  return tagged ? last(c, "</tool_call>", at_end) : Got::yes;
}

Got llama_json(Cursor& c, Calls& out) {
  if (c.rest().starts_with("<|python_tag|>")) c.at += std::string_view("<|python_tag|>").size();
  else if (c.rest().starts_with(";")) ++c.at;
  OrderedJson value;
  LORAINE_NEED(c.json(value));
  return add_objects(value, out) ? Got::yes : Got::no;
}

Got mistral(Cursor& c, Calls& out) {
  LORAINE_NEED(c.take("[TOOL_CALLS]"));
  c.blanks();
  if (c.at == c.text.size()) return Got::more;
  OrderedJson value;
  if (c.rest()[0] == '[' || c.rest()[0] == '{') {
    LORAINE_NEED(c.json(value));
    return add_objects(value, out) ? Got::yes : Got::no;
  }
  std::string_view name;
  if (c.rest().find_first_of(" \t\r\n{}\"") < c.rest().find("[ARGS]")) return Got::no;
  LORAINE_NEED(c.up_to("[ARGS]", name));
  name = name.substr(0, name.find("[CALL_ID]"));
  if (!is_called_name(name)) return Got::no;
  LORAINE_NEED(c.json(value));
  if (!value.is_object()) return Got::no;
  out.push_back({std::string(name), python_json(value)});
  return Got::yes;
}

Got gemma(Cursor& c, bool at_end, Calls& out) {
  LORAINE_NEED(c.take("<|tool_call>call:"));
  std::string_view name;
  const size_t brace = c.rest().find('{');
  if (!is_called_name(c.rest().substr(0, brace)) && !c.rest().empty()) return Got::no;
  if (brace == std::string_view::npos) return Got::more;
  name = c.rest().substr(0, brace);
  c.at += brace;
  constexpr std::string_view kQuote = "<|\"|>";
  int depth = 0;
  bool inside = false;
  for (size_t i = c.at; i < c.text.size(); ++i) {
    if (c.text.substr(i).starts_with(kQuote)) {
      inside = !inside;
      i += kQuote.size() - 1;
    } else if (!inside && (c.text[i] == '{' || c.text[i] == '[')) {
      ++depth;
    } else if (!inside && (c.text[i] == '}' || c.text[i] == ']') && --depth == 0) {
      const OrderedJson arguments = json_within_limits(gemma_json(std::string(c.text.substr(c.at, i + 1 - c.at))));
      if (!arguments.is_object()) return Got::no;
      c.at = i + 1;
      out.push_back({std::string(name), python_json(arguments)});
      return last(c, "<tool_call|>", at_end);
    }
  }
  return Got::more;
}

Got argument_pairs(Cursor& c, bool at_end, const ToolTypes& types, Calls& out) {
  LORAINE_NEED(c.take("<tool_call>"));
  const size_t end = c.rest().find('<');
  if (end == std::string_view::npos) return is_called_name(trimmed(c.rest())) || trimmed(c.rest()).empty() ? Got::more : Got::no;
  const std::string_view name = trimmed(c.rest().substr(0, end));
  if (!is_called_name(name)) return Got::no;
  c.at += end;
  OrderedJson arguments = OrderedJson::object();
  for (;;) {
    c.blanks();
    std::string_view key, value;
    Got got = c.take("<arg_key>");
    if (got == Got::more && !std::string_view("</tool_call>").starts_with(c.rest())) return got;
    if (got != Got::yes) {
      got = last(c, "</tool_call>", at_end);
      if (got == Got::yes) out.push_back({std::string(name), python_json(arguments)});
      return got;
    }
    LORAINE_NEED(c.up_to("</arg_key>", key));
    c.blanks();
    LORAINE_NEED(c.take("<arg_value>"));
    LORAINE_NEED(c.up_to("</arg_value>", value));
    arguments[std::string(trimmed(key))] = types.value(name, trimmed(key), value);
  }
}

Got python_calls(Cursor& c, bool at_end, Calls& out) {
  LORAINE_NEED(c.take("<|tool_call_start|>"));
  for (size_t from = c.at;;) {  // a text among the arguments may hold the marker
    size_t end = c.text.find("<|tool_call_end|>", from);
    const bool found = end != std::string_view::npos;
    if (!found && !at_end) return Got::more;
    if (!found) end = c.text.size();
    if (auto calls = read_python_calls(trimmed(c.text.substr(c.at, end - c.at)))) {
      out.insert(out.end(), calls->begin(), calls->end());
      c.at = found ? end + std::string_view("<|tool_call_end|>").size() : end;
      return Got::yes;
    }
    if (!found) return Got::no;
    from = end + 1;
  }
}

Got functools(Cursor& c, Calls& out) {
  LORAINE_NEED(c.take("functools"));
  OrderedJson value;
  LORAINE_NEED(c.json(value));
  return value.is_array() && add_objects(value, out) ? Got::yes : Got::no;
}

Got toolcall_list(Cursor& c, bool at_end, Calls& out) {
  OrderedJson value;
  LORAINE_NEED(c.take("<TOOLCALL>"));
  LORAINE_NEED(c.json(value));
  if (!value.is_array() || !add_objects(value, out)) return Got::no;
  return last(c, "</TOOLCALL>", at_end);
}

Got command(Cursor& c, bool at_end, Calls& out) {
  OrderedJson value;
  LORAINE_NEED(c.take("Action:"));
  c.blanks();
  LORAINE_NEED(c.take("```json"));
  LORAINE_NEED(c.json(value));
  if (!value.is_array() || value.empty()) return Got::no;
  for (const OrderedJson& one : value) {
    if (!one.is_object() || !one.contains("tool_name") || !one["tool_name"].is_string()) return Got::no;
    const std::string name = one["tool_name"].get<std::string>();
    const OrderedJson arguments = one.value("parameters", OrderedJson::object());
    if (!is_called_name(name) || !arguments.is_object()) return Got::no;
    out.push_back({name, python_json(arguments)});
  }
  return last(c, "```", at_end);
}

constexpr std::string_view kDeepseekBegin = "<｜tool▁call▁begin｜>", kDeepseekEnd = "<｜tool▁call▁end｜>",
                           kDeepseekBetween = "<｜tool▁sep｜>", kDeepseekOpen = "<｜tool▁calls▁begin｜>",
                           kDeepseekClose = "<｜tool▁calls▁end｜>";

Got deepseek(Cursor& c, bool at_end, Calls& out) {
  const bool whole = c.rest().starts_with(kDeepseekOpen);
  if (whole) c.at += kDeepseekOpen.size();
  for (;;) {
    c.blanks();
    const Got begins = c.take(kDeepseekBegin);
    if (begins == Got::more && !(at_end && !out.empty() && c.rest().empty()) && !kDeepseekClose.starts_with(c.rest())) return begins;
    if (begins != Got::yes) {
      if (out.empty()) return begins;
      return whole ? last(c, kDeepseekClose, at_end) : Got::yes;
    }
    std::string_view name;
    LORAINE_NEED(c.up_to(kDeepseekBetween, name));
    OrderedJson value;
    if (name == "function") {
      LORAINE_NEED(c.up_to("\n", name));
      LORAINE_NEED(c.take("```json"));
      LORAINE_NEED(c.json(value));
      c.blanks();
      LORAINE_NEED(c.take("```"));
    } else {
      LORAINE_NEED(c.json(value));
    }
    if (!is_called_name(trimmed(name)) || !value.is_object()) return Got::no;
    out.push_back({std::string(trimmed(name)), python_json(value)});
    LORAINE_NEED(last(c, kDeepseekEnd, at_end));
    if (!whole) return Got::yes;
  }
}

// As LLaMA-Factory's tool_format default reads it: quotes and marks of code around the arguments say nothing.
Got action(Cursor& c, bool at_end, Calls& out) {
  const auto marks = [&] {
    while (c.at < c.text.size() && (c.text[c.at] == '"' || c.text[c.at] == '`')) ++c.at;
  };
  if (c.rest().starts_with("```\n")) c.at += 4;
  LORAINE_NEED(c.take("Action:"));
  c.blanks();
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  const size_t end = c.text.find_first_not_of(kLetters, c.at);
  if (end == std::string_view::npos) return c.rest().size() <= 256 ? Got::more : Got::no;
  const std::string_view name = c.text.substr(c.at, end - c.at);
  if (!is_called_name(name)) return Got::no;
  c.at = end;
  c.blanks();
  LORAINE_NEED(c.take("Action Input:"));
  c.blanks();
  marks();
  OrderedJson value;
  LORAINE_NEED(c.json(value));
  if (!value.is_object()) return Got::no;
  out.push_back({std::string(name), python_json(value)});
  c.blanks();
  marks();
  return c.at == c.text.size() && !at_end ? Got::more : Got::yes;  // more marks may come
}

Got bare_json(Cursor& c, Calls& out) {
  OrderedJson value;
  LORAINE_NEED(c.json(value));
  return add_objects(value, out) ? Got::yes : Got::no;
}

#undef LORAINE_NEED

}  // namespace

CallRead read_call(const CallFormat& format, std::string_view text, bool at_end, const ToolTypes& types) {
  Cursor c{text};
  CallRead out{CallRead::Outcome::none};
  Got got = Got::no;
  switch (format.form) {
    case CallForm::tagged_json: got = tagged_json(c, at_end, out.calls); break;
    case CallForm::function_tags: got = function_tags(c, at_end, types, out.calls); break;
    case CallForm::llama_json: got = llama_json(c, out.calls); break;
    case CallForm::mistral: got = mistral(c, out.calls); break;
    case CallForm::gemma: got = gemma(c, at_end, out.calls); break;
    case CallForm::argument_pairs: got = argument_pairs(c, at_end, types, out.calls); break;
    case CallForm::python_calls: got = python_calls(c, at_end, out.calls); break;
    case CallForm::functools: got = functools(c, out.calls); break;
    case CallForm::deepseek: got = deepseek(c, at_end, out.calls); break;
    case CallForm::toolcall_list: got = toolcall_list(c, at_end, out.calls); break;
    case CallForm::command: got = command(c, at_end, out.calls); break;
    case CallForm::action: got = action(c, at_end, out.calls); break;
    case CallForm::bare_json: got = bare_json(c, out.calls); break;
  }
  if (got == Got::more) out.outcome = at_end ? CallRead::Outcome::none : CallRead::Outcome::more;
  if (got == Got::yes) {
    out.outcome = CallRead::Outcome::calls;
    out.bytes = c.at;
  } else {
    out.calls.clear();
  }
  return out;
}

}  // namespace loraine
