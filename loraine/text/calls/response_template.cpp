// See response_template.h.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "loraine/text/calls/response_template.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/python_json.h"
#include "loraine/text/calls/python_call.h"
#include "loraine/text/calls/tool_types.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
constexpr std::string_view kPythonBlanks = " \n\t\r\f\v";

std::string_view stripped(std::string_view text) {
  const size_t first = text.find_first_not_of(kPythonBlanks);
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(kPythonBlanks) + 1 - first);
}

[[noreturn]] void refuse(const std::string& place, const std::string& what) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {}", place, what),
              "see transformers' page on response parsing, or set tool_call_parser");
}

// Where a mark stands in a text: literals are patterns too.
struct Found {
  size_t begin = 0, end = 0;
  bool partial = false;  // the text's end may be the beginning of one, from `begin` on
  OrderedJson names = OrderedJson::object();
};

class Pattern {
 public:
  Pattern(const std::string& pattern, const std::string& place) : code_(nullptr, pcre2_code_free), match_(nullptr, pcre2_match_data_free) {
    int number = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY | PCRE2_MATCH_INVALID_UTF, &number, &offset,
                              nullptr));
    if (!code_) {
      PCRE2_UCHAR text[120];
      pcre2_get_error_message(number, text, sizeof text);
      refuse(place, fmt::format("the pattern `{}` does not compile: {} at {}", pattern, reinterpret_cast<const char*>(text), offset));
    }
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    context_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context_.get(), 1'000'000);
    pcre2_set_depth_limit(context_.get(), 100'000);
    uint32_t count = 0, size = 0;
    PCRE2_SPTR table = nullptr;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_NAMECOUNT, &count);
    pcre2_pattern_info(code_.get(), PCRE2_INFO_NAMEENTRYSIZE, &size);
    pcre2_pattern_info(code_.get(), PCRE2_INFO_NAMETABLE, &table);
    for (uint32_t i = 0; i < count; ++i, table += size)
      names_.emplace_back(table[0] << 8 | table[1], reinterpret_cast<const char*>(table + 2));
  }

  // The first place at or behind `from`; where the text may go on, also one that its end may be the beginning of.
  std::optional<Found> find(std::string_view text, size_t from, bool goes_on) const {
    const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                  goes_on ? PCRE2_PARTIAL_HARD : 0, match_.get(), context_.get());
    if (count < 0 && count != PCRE2_ERROR_PARTIAL) return std::nullopt;
    const PCRE2_SIZE* place = pcre2_get_ovector_pointer(match_.get());
    Found found{place[0], std::max(place[0], place[1]), count == PCRE2_ERROR_PARTIAL};
    if (found.partial) return found;
    for (const auto& [number, name] : names_)
      if (number < count && place[2 * number] != PCRE2_UNSET)
        found.names[name] = std::string(text.substr(place[2 * number], place[2 * number + 1] - place[2 * number]));
      else found.names[name] = nullptr;
    return found;
  }
  bool has(std::string_view name) const {
    return std::any_of(names_.begin(), names_.end(), [&](const auto& each) { return each.second == name; });
  }

 private:
  struct FreeContext {
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  };
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match_;
  std::unique_ptr<pcre2_match_context, FreeContext> context_;
  std::vector<std::pair<int, std::string>> names_;
};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}#-/ \n").find(c) != std::string_view::npos && c != '\n') out += '\\';
    out += c;
  }
  return out;
}

// How the text of a field becomes a value.
struct Parser {
  enum class Kind : uint8_t { text, integer, real, boolean, json, xml_inline, kv_lines, python_calls } kind = Kind::text;
  bool strip = true;
  bool unquoted_keys = false, allow_non_json = false, merge_duplicates = false;
  std::vector<std::pair<std::string, std::string>> string_delims;
  std::shared_ptr<Pattern> tag;
  std::string line_sep = "\n", kv_sep = ":";
  std::shared_ptr<Parser> values;
};

bool flag(const OrderedJson& args, const char* key, bool otherwise, const std::string& place) {
  if (!args.contains(key)) return otherwise;
  if (!args[key].is_boolean()) refuse(place + "." + key, "is not true or false");
  return args[key].get<bool>();
}

void check_keys(const OrderedJson& object, std::initializer_list<std::string_view> known, const std::string& place) {
  if (!object.is_object()) refuse(place, "is no object");
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end()) refuse(place, fmt::format("`{}` is not known", key.substr(0, 60)));
}

Parser parser_of(const std::string& name, const OrderedJson& args, const std::string& place, int depth = 0) {
  if (depth > 8) refuse(place, "value parsers are nested too deeply");
  Parser out;
  using Kind = Parser::Kind;
  const auto values = [&] {
    if (!args.contains("value_parser") || args["value_parser"].is_null()) return;
    const OrderedJson& inner = args["value_parser"];
    check_keys(inner, {"name", "args"}, place + ".value_parser");
    if (!inner.contains("name") || !inner["name"].is_string()) refuse(place + ".value_parser", "has no name");
    out.values =
        std::make_shared<Parser>(parser_of(inner["name"].get<std::string>(), inner.contains("args") ? inner["args"] : OrderedJson::object(),
                                           place + ".value_parser", depth + 1));
  };
  const auto text = [&](const char* key, const std::string& otherwise) {
    if (!args.contains(key)) return otherwise;
    if (!args[key].is_string() || args[key].get_ref<const std::string&>().empty()) refuse(place + "." + key, "is no text");
    return args[key].get<std::string>();
  };
  if (name == "text") {
    check_keys(args, {"strip"}, place);
    out.strip = flag(args, "strip", true, place);
  } else if (name == "int" || name == "float" || name == "bool") {
    check_keys(args, {}, place);
    out.kind = name == "int" ? Kind::integer : name == "float" ? Kind::real : Kind::boolean;
  } else if (name == "json") {
    check_keys(args, {"unquoted_keys", "string_delims", "allow_non_json"}, place);
    out.kind = Kind::json;
    out.unquoted_keys = flag(args, "unquoted_keys", false, place);
    out.allow_non_json = flag(args, "allow_non_json", false, place);
    if (args.contains("string_delims"))
      for (const OrderedJson& pair : args["string_delims"]) {
        if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string() || pair[0].empty() || pair[0] == "" ||
            pair[1] == "")
          refuse(place + ".string_delims", "is no list of pairs of texts");
        out.string_delims.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
      }
  } else if (name == "xml-inline") {
    check_keys(args, {"tag_pattern", "value_parser", "merge_duplicates", "strip"}, place);
    out.kind = Kind::xml_inline;
    out.tag = std::make_shared<Pattern>(text("tag_pattern", ""), place + ".tag_pattern");
    if (!out.tag->has("key") || !out.tag->has("value")) refuse(place + ".tag_pattern", "has no groups named key and value");
    out.merge_duplicates = flag(args, "merge_duplicates", false, place);
    values();
  } else if (name == "kv-lines") {
    check_keys(args, {"line_sep", "kv_sep", "strip", "value_parser"}, place);
    out.kind = Kind::kv_lines;
    out.line_sep = text("line_sep", "\n");
    out.kv_sep = text("kv_sep", ":");
    out.strip = flag(args, "strip", true, place);
    values();
  } else if (name == "python-call-list") {
    check_keys(args, {}, place);
    out.kind = Kind::python_calls;
  } else {
    refuse(place, fmt::format("the content type `{}` is not known", name.substr(0, 60)));
  }
  return out;
}

// Texts between other marks, and bare keys, as JSON has them.
std::string plain_json(const Parser& parser, std::string_view text) {
  std::string out;
  bool quoted = false;
  for (size_t at = 0; at < text.size();) {
    if (quoted && text[at] == '\\' && at + 1 < text.size()) {
      out += text.substr(at, 2);
      at += 2;
      continue;
    }
    const auto delims = std::find_if(parser.string_delims.begin(), parser.string_delims.end(),
                                     [&](const auto& pair) { return !quoted && text.substr(at).starts_with(pair.first); });
    if (delims != parser.string_delims.end()) {
      const size_t begin = at + delims->first.size(), end = text.find(delims->second, begin);
      if (end != std::string_view::npos) {
        out += OrderedJson(std::string(text.substr(begin, end - begin))).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
        at = end + delims->second.size();
        continue;
      }
    }
    if (text[at] == '"') quoted = !quoted;
    const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; };
    const size_t before = out.find_last_not_of(kPythonBlanks);
    if (parser.unquoted_keys && !quoted && letter(text[at]) && before != std::string::npos && (out[before] == '{' || out[before] == ',')) {
      size_t end = at;
      while (end < text.size() && (letter(text[end]) || std::isdigit(static_cast<unsigned char>(text[end])))) ++end;
      const size_t colon = text.find_first_not_of(kPythonBlanks, end);
      if (colon != std::string_view::npos && text[colon] == ':') {
        out += '"' + std::string(text.substr(at, end - at)) + '"';
        at = end;
        continue;
      }
    }
    out += text[at++];
  }
  return out;
}

std::optional<OrderedJson> parsed(const Parser& parser, std::string_view text);

std::optional<OrderedJson> value_of(const Parser& parser, std::string_view text) {
  return parser.values ? parsed(*parser.values, text) : std::optional<OrderedJson>(std::string(text));
}

std::optional<OrderedJson> parsed(const Parser& parser, std::string_view text) {
  using Kind = Parser::Kind;
  const std::string_view inner = stripped(text);
  switch (parser.kind) {
    case Kind::text: return OrderedJson(std::string(parser.strip ? inner : text));
    case Kind::integer: {
      const OrderedJson value = json_within_limits(inner);
      return value.is_number_integer() ? std::optional<OrderedJson>(value) : std::nullopt;
    }
    case Kind::real: {
      const OrderedJson value = json_within_limits(inner);
      return value.is_number() ? std::optional<OrderedJson>(value.get<double>()) : std::nullopt;
    }
    case Kind::boolean: {
      std::string word(inner);
      std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      return OrderedJson(word == "true" || word == "1");
    }
    case Kind::json: {
      const bool plain = !parser.unquoted_keys && parser.string_delims.empty();
      OrderedJson value = json_within_limits(plain ? std::string(inner) : plain_json(parser, inner));
      if (!value.is_discarded()) return value;
      return parser.allow_non_json ? std::optional<OrderedJson>(std::string(inner)) : std::nullopt;
    }
    case Kind::xml_inline: {
      OrderedJson out = OrderedJson::object();
      std::set<std::string> merged;
      for (size_t at = 0; at <= text.size();) {
        const auto found = parser.tag->find(text, at, false);
        if (!found) break;
        at = std::max(found->end, at + 1);
        if (!found->names["key"].is_string()) continue;
        const std::string key = found->names["key"].get<std::string>();
        auto value = value_of(parser, found->names["value"].is_string() ? found->names["value"].get<std::string>() : "");
        if (!value) return std::nullopt;
        if (!parser.merge_duplicates || !out.contains(key)) {
          out[key] = std::move(*value);
          continue;
        }
        if (merged.insert(key).second) out[key] = OrderedJson::array({out[key]});
        out[key].push_back(std::move(*value));
      }
      return out;
    }
    case Kind::kv_lines: {
      OrderedJson out = OrderedJson::object();
      for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(parser.line_sep, at), text.size());
        const std::string_view line = text.substr(at, end - at);
        at = end + parser.line_sep.size();
        const size_t colon = line.find(parser.kv_sep);
        if (colon == std::string_view::npos) continue;
        const auto part = [&](std::string_view words) { return parser.strip ? stripped(words) : words; };
        auto value = value_of(parser, part(line.substr(colon + parser.kv_sep.size())));
        if (!value) return std::nullopt;
        out[std::string(part(line.substr(0, colon)))] = std::move(*value);
      }
      return out;
    }
    case Kind::python_calls: {
      const auto calls = read_python_calls(inner);
      if (!calls) return std::nullopt;
      OrderedJson out = OrderedJson::array();
      for (const ToolCall& call : *calls) out.push_back({{"name", call.name}, {"arguments", json_within_limits(call.arguments)}});
      return out;
    }
  }
  return std::nullopt;
}

// The shape of `transform` with "{name}" replaced; none where a name is not there.
std::optional<OrderedJson> transformed(const OrderedJson& shape, const OrderedJson& names, int depth = 0) {
  if (depth > 32) return std::nullopt;
  if (shape.is_string()) {
    const std::string& text = shape.get_ref<const std::string&>();
    if (text.size() < 3 || text.front() != '{' || text.back() != '}') return shape;
    const OrderedJson* at = &names;
    for (size_t begin = 1; begin < text.size();) {  // a.b is a member of a
      const size_t end = std::min(text.find('.', begin), text.size() - 1);
      const std::string key = text.substr(begin, end - begin);
      if (!at->is_object() || !at->contains(key)) return std::nullopt;
      at = &(*at)[key];
      begin = end + 1;
    }
    return *at;
  }
  if (!shape.is_structured()) return shape;
  OrderedJson out = shape.is_array() ? OrderedJson::array() : OrderedJson::object();
  for (const auto& [key, value] : shape.items()) {
    auto inner = transformed(value, names, depth + 1);
    if (!inner) return std::nullopt;
    if (shape.is_array()) out.push_back(std::move(*inner));
    else out[key] = std::move(*inner);
  }
  return out;
}

bool add_calls(const OrderedJson& value, const ToolTypes& types, std::vector<ToolCall>& out) {
  if (value.is_array())
    return std::all_of(value.begin(), value.end(),
                       [&](const OrderedJson& each) { return !each.is_array() && add_calls(each, types, out); });
  if (!value.is_object()) return false;
  const OrderedJson& function = value.contains("function") && value["function"].is_object() ? value["function"] : value;
  if (!function.contains("name") || !function["name"].is_string()) return false;
  OrderedJson arguments = function.contains("arguments")    ? function["arguments"]
                          : function.contains("parameters") ? function["parameters"]
                                                            : OrderedJson::object();
  if (arguments.is_string()) arguments = json_within_limits(arguments.get_ref<const std::string&>());
  if (!arguments.is_object()) return false;
  for (auto argument = arguments.begin(); argument != arguments.end(); ++argument)  // texts of what the schema says is none
    if (argument->is_string() && types.knows(function["name"].get<std::string>(), argument.key()))
      *argument = types.value(function["name"].get<std::string>(), argument.key(), argument->get<std::string>());
  out.push_back({function["name"].get<std::string>(), python_json(arguments)});
  return true;
}

struct Field {
  enum class Role : uint8_t { content, thinking, calls, other } role = Role::other;
  std::unique_ptr<Pattern> open, close;  // open absent: the field of all that is in no other; close absent: the end of the answer
  Parser parser;
  OrderedJson transform;
  bool transform_each = false;
  bool streams() const { return parser.kind == Parser::Kind::text && transform.is_null() && role != Role::calls; }
};

// A literal, one of several, or a pattern; "eos" as an end is none.
std::unique_ptr<Pattern> mark(const OrderedJson& field, const char* literal, const char* pattern, const std::string& place) {
  if (field.contains(literal) && field.contains(pattern)) refuse(place, fmt::format("has both `{}` and `{}`", literal, pattern));
  if (field.contains(pattern)) {
    if (!field[pattern].is_string()) refuse(place + "." + pattern, "is no text");
    return std::make_unique<Pattern>(field[pattern].get<std::string>(), place + "." + pattern);
  }
  if (!field.contains(literal) || field[literal].is_null()) return nullptr;
  std::vector<std::string> words;
  for (const OrderedJson& word : field[literal].is_array() ? field[literal] : OrderedJson::array({field[literal]})) {
    if (!word.is_string() || word.get_ref<const std::string&>().empty()) refuse(place + "." + literal, "is no text");
    if (word != "eos" || std::string_view(literal) != "close") words.push_back(word.get<std::string>());
  }
  if (words.empty()) return nullptr;
  std::stable_sort(words.begin(), words.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : "|") + escaped(word);
  return std::make_unique<Pattern>(all, place + "." + literal);
}

}  // namespace

struct ResponseTemplate::State {
  std::vector<Field> fields;
  int implicit = -1;
  std::unique_ptr<Pattern> anchor;
};

ResponseTemplate::ResponseTemplate(const OrderedJson& given, const std::string& file) : state_(std::make_unique<State>()) {
  const std::string place = file + ": response_template";
  check_keys(given, {"version", "defaults", "start_anchor", "start_anchor_pattern", "fields"}, place);
  if (given.contains("version") && given["version"] != 1)
    refuse(place, fmt::format("version {} is not known, 1 is", given["version"].dump().substr(0, 20)));
  if (!given.contains("fields") || !given["fields"].is_object() || given["fields"].empty()) refuse(place, "has no fields");
  state_->anchor = mark(given, "start_anchor", "start_anchor_pattern", place);
  for (const auto& [name, field] : given["fields"].items()) {
    const std::string where = place + ".fields." + name.substr(0, 60);
    check_keys(field,
               {"open", "open_pattern", "close", "close_pattern", "content", "content_args", "repeats", "join", "optional", "transform",
                "transform_each"},
               where);
    Field out;
    out.role = name == "content"                                                          ? Field::Role::content
               : name == "thinking" || name == "reasoning" || name == "reasoning_content" ? Field::Role::thinking
               : name == "tool_calls"                                                     ? Field::Role::calls
                                                                                          : Field::Role::other;
    out.open = mark(field, "open", "open_pattern", where);
    out.close = mark(field, "close", "close_pattern", where);
    if (field.contains("content") && !field["content"].is_string()) refuse(where + ".content", "is no text");
    const OrderedJson args =
        field.contains("content_args") && !field["content_args"].is_null() ? field["content_args"] : OrderedJson::object();
    out.parser = parser_of(field.contains("content") ? field["content"].get<std::string>() : "text", args, where + ".content_args");
    if (field.contains("transform")) out.transform = field["transform"];
    out.transform_each = flag(field, "transform_each", false, where);
    if (!out.open) {
      if (state_->implicit >= 0) refuse(where, "is a second field without `open`; one may have none");
      state_->implicit = static_cast<int>(state_->fields.size());
    }
    state_->fields.push_back(std::move(out));
  }
}

ResponseTemplate::~ResponseTemplate() = default;

ResponseTemplate::Reader::Reader(const ResponseTemplate& response_template, std::string_view prompt, const OrderedJson& tools)
    : template_(response_template), types_(tools) {
  const State& t = *template_.state_;
  size_t from = 0;
  bool anchored = false;
  if (t.anchor)
    for (size_t at = 0; at <= prompt.size();) {
      const auto found = t.anchor->find(prompt, at, false);
      if (!found) break;
      from = found->end;
      anchored = true;
      at = std::max(found->end, found->begin + 1);
    }
  if (t.anchor && !anchored) return;
  in_prompt_ = true;
  push(prompt.substr(from));
  in_prompt_ = false;
  // only a mark that the prompt opened counts, its text does not
  if (field_ < 0) buffer_.clear();
  blanks_.clear();
  some_ = false;
  last_text_ = -2;
}

AnswerPart ResponseTemplate::Reader::push(std::string_view text) {
  buffer_ += text;
  AnswerPart out;
  read(out, false);
  return out;
}

AnswerPart ResponseTemplate::Reader::finish() {
  AnswerPart out;
  read(out, true);
  return out;
}

bool ResponseTemplate::Reader::in_thought() const {
  return field_ >= 0 && template_.state_->fields[static_cast<size_t>(field_)].role == Field::Role::thinking;
}

// Text of a field that streams: without the blanks at both ends where it is stripped.
void ResponseTemplate::Reader::give(AnswerPart& out, size_t number, std::string_view text) {
  const Field& field = template_.state_->fields[number];
  if (last_text_ != static_cast<int>(number)) {
    blanks_.clear();
    some_ = false;
    last_text_ = static_cast<int>(number);
  }
  std::string* to = field.role == Field::Role::content ? &out.content : field.role == Field::Role::thinking ? &out.reasoning : nullptr;
  if (!to) return;
  if (!field.parser.strip) {
    *to += text;
    return;
  }
  const size_t last = text.find_last_not_of(kPythonBlanks);
  if (last == std::string_view::npos) {
    blanks_ += text;
    return;
  }
  const std::string_view head = text.substr(0, last + 1);
  if (some_) *to += blanks_;
  *to += some_ ? head : head.substr(head.find_first_not_of(kPythonBlanks));
  blanks_ = text.substr(last + 1);
  some_ = true;
}

// The value of a field that ended; `whole` is its text with its marks.
void ResponseTemplate::Reader::close(AnswerPart& out, std::string_view body, std::string_view whole) {
  const Field& field = template_.state_->fields[static_cast<size_t>(field_)];
  if (field.role == Field::Role::other) return;
  auto value = parsed(field.parser, body);
  const auto shaped = [&](const OrderedJson& content) {
    if (field.transform.is_null()) return std::optional<OrderedJson>(content);
    OrderedJson names = names_;
    if (content.is_object() && field.transform_each) names.update(content);
    names["content"] = content;
    return transformed(field.transform, names);
  };
  if (value && field.transform_each) {
    OrderedJson all = OrderedJson::array();
    bool good = value->is_array();
    if (good)
      for (const OrderedJson& each : *value) {
        auto one = shaped(each);
        good = good && one.has_value();
        if (good) all.push_back(std::move(*one));
      }
    value = good ? std::optional<OrderedJson>(std::move(all)) : std::nullopt;
  } else if (value) {
    value = shaped(*value);
  }
  if (value && field.role == Field::Role::calls) {
    std::vector<ToolCall> calls;
    if (add_calls(*value, types_, calls)) {
      for (ToolCall& call : calls) out.calls.push_back(std::move(call));
      return;
    }
  } else if (value) {
    (field.role == Field::Role::content ? out.content : out.reasoning) +=
        value->is_string() ? value->get<std::string>() : python_json(*value);
    return;
  }
  out.content += whole;  // no call after all
}

void ResponseTemplate::Reader::read(AnswerPart& out, bool at_end) {
  const State& t = *template_.state_;
  for (;;) {
    if (field_ < 0) {
      // The first mark, the longest of those at its place; what may still become one before or at that place has to be waited for.
      std::optional<Found> first;
      int which = -1;
      size_t held = buffer_.size();
      const auto look = [&](const Pattern& pattern, int field) {
        auto found = pattern.find(buffer_, 0, !at_end);
        if (!found || (found->end == found->begin && !found->partial)) return;  // an empty mark is none
        if (found->partial) held = std::min(held, found->begin);
        else if (!first || found->begin < first->begin || (found->begin == first->begin && found->end > first->end))
          first = std::move(found), which = field;
      };
      for (size_t i = 0; i < t.fields.size(); ++i)
        if (t.fields[i].open) look(*t.fields[i].open, static_cast<int>(i));
      // The field without a mark may have an end of its own, which is dropped.
      if (t.implicit >= 0 && t.fields[static_cast<size_t>(t.implicit)].close) look(*t.fields[static_cast<size_t>(t.implicit)].close, -1);
      if (first && first->begin >= held) first.reset();
      const size_t text = first ? first->begin : held;
      if (text > 0 && t.implicit >= 0 && !in_prompt_) give(out, static_cast<size_t>(t.implicit), std::string_view(buffer_).substr(0, text));
      if (!first) {
        buffer_.erase(0, text);
        return;
      }
      if (which >= 0) {
        opening_ = buffer_.substr(first->begin, first->end - first->begin);
        names_ = first->names;
        field_ = which;
        looked_ = 0;
        if (last_text_ != which) some_ = false;
      }
      buffer_.erase(0, first->end);
      continue;
    }
    const Field& field = t.fields[static_cast<size_t>(field_)];
    std::optional<Found> end;
    if (field.close) end = field.close->find(buffer_, field.streams() ? 0 : looked_, !at_end);
    if (end && end->end == end->begin && !end->partial) end.reset();
    const bool closed = end && !end->partial;
    const size_t text = end ? end->begin : buffer_.size();
    if (field.streams()) {
      if (!in_prompt_) give(out, static_cast<size_t>(field_), std::string_view(buffer_).substr(0, text));
      buffer_.erase(0, closed ? end->end : text);
    } else if (closed || at_end) {
      if (closed) names_.update(end->names);
      const size_t last = closed ? end->end : buffer_.size();
      if (!in_prompt_) close(out, std::string_view(buffer_).substr(0, text), opening_ + buffer_.substr(0, last));
      buffer_.erase(0, last);
    } else {
      looked_ = text;
    }
    if (!closed) {
      if (at_end) field_ = -1;
      return;
    }
    field_ = -1;
    last_text_ = -2;
  }
}

}  // namespace loraine
