// The layouts of data rows, with LLaMA-Factory's rules for what is joined, replaced and dropped. Called by read_rows.cpp.
#include "loraine/data/rows/formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"
#include "loraine/core/python_json.h"
#include "loraine/data/encode/results.h"
#include "loraine/data/files/json_values.h"
#include "loraine/data/rows/decision_fields.h"

namespace loraine {
namespace {

namespace dom = simdjson::dom;
using OrderedJson = nlohmann::ordered_json;

[[noreturn]] void bad_field(const std::string& field, const std::string& found) {
  throw Error(ErrorKind::bad_data, fmt::format("field `{}`: {}", field, found));
}

std::string type_name(dom::element value) {
  switch (value.type()) {
    case dom::element_type::ARRAY: return "a list";
    case dom::element_type::OBJECT: return "an object";
    case dom::element_type::STRING: {
      const std::string beyond = beyond_json(value.get_string().value());
      return beyond.empty() ? "a text" : beyond;
    }
    case dom::element_type::BOOL: return "true or false";
    case dom::element_type::NULL_VALUE: return "null";
    default: return "a number";
  }
}

std::string text_of(dom::element value, const std::string& field) {
  std::string_view text;
  if (value.get(text)) bad_field(field, fmt::format("{} where a text is expected", type_name(value)));
  if (text.find('\0') != std::string_view::npos) {
    const std::string beyond = beyond_json(text);
    bad_field(field, beyond.empty() ? "holds a NUL character" : fmt::format("{} where a text is expected", beyond));
  }
  return std::string(text);
}

// An answer's text. An empty one is an answer too, whose end is trained, as LLaMA-Factory does; null is none, and the row is dropped there.
std::string answer_of(dom::element value, const std::string& field) {
  if (value.is_null()) bad_field(field, "null, or an empty cell: there is no answer to train on");
  return text_of(value, field);
}

// Nesting and keys of a column that is read: a key that stands twice would make what counts a guess. `path`: the field, for messages.
void check_structure(dom::element element, std::string& path, int depth) {
  constexpr int kMaxDepth = 64;
  if (depth > kMaxDepth) bad_field(path.substr(0, 60), fmt::format("nested deeper than {} levels", kMaxDepth));
  const size_t length = path.size();
  if (dom::object object; !element.get(object)) {
    std::vector<std::string_view> keys;
    for (const auto [key, value] : object) {
      path += "." + std::string(key);
      keys.push_back(key);
      if (value.is_object() || value.is_array()) check_structure(value, path, depth + 1);
      path.resize(length);
    }
    std::sort(keys.begin(), keys.end());
    if (const auto twice = std::adjacent_find(keys.begin(), keys.end()); twice != keys.end())
      bad_field(path + "." + std::string(*twice), "stands twice in one object");
  } else if (dom::array array; !element.get(array)) {
    size_t i = 0;
    for (const dom::element item : array) {
      if (item.is_object() || item.is_array()) {
        path += fmt::format("[{}]", i);
        check_structure(item, path, depth + 1);
        path.resize(length);
      }
      ++i;
    }
  }
}

// The columns that are read, each at most once in the row and sound; the others have no say.
void check_columns(const DatasetInfo& info, dom::object object) {
  const auto& c = info.columns;
  const bool talk = info.formatting != Formatting::alpaca;
  std::vector<std::string_view> read = {c.system, c.tools, c.chosen, c.rejected, c.kto_tag};
  if (info.stage == DataStage::decisions) read.insert(read.end(), {c.choices, c.label, c.question});
  if (talk) read.push_back(c.messages);
  else read.insert(read.end(), {c.prompt, c.query, c.response, c.history});
  std::vector<std::string_view> seen;
  for (const auto [key, value] : object) {
    if (key.empty() || std::find(read.begin(), read.end(), key) == read.end()) continue;
    std::string path(key);
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) bad_field(path, "stands twice in one object");
    seen.push_back(key);
    check_structure(value, path, 1);
  }
}

// The field's text; empty for null, and for an absent field unless it is required.
std::string field_text(dom::object object, const std::string& field, bool required) {
  if (field.empty()) return {};
  dom::element value;
  if (object.at_key(field).get(value)) {
    if (required) bad_field(field, "absent");
    return {};
  }
  return value.is_null() ? std::string() : text_of(value, field);
}

OrderedJson to_json(dom::element value, const std::string& field) {
  OrderedJson json = OrderedJson::parse(std::string(simdjson::minify(value)));
  const OrderedJson parts = json.flatten();
  for (const auto& [place, part] : parts.items())
    if (part.is_string())
      if (const std::string beyond = beyond_json(part.get_ref<const std::string&>()); !beyond.empty())
        bad_field(field, fmt::format("{} at {}, which JSON cannot hold", beyond, place));
  return json;
}

// The tools column may hold JSON text or the list itself.
std::string tools_field(dom::object object, const std::string& field) {
  dom::element value;
  if (field.empty() || object.at_key(field).get(value) || value.is_null()) return {};
  if (value.is_array() || value.is_object()) return python_json(to_json(value, field));
  return text_of(value, field);
}

// Whether an answer was found good. An empty one never was, as in LLaMA-Factory.
void take_tag(const DatasetInfo& info, dom::object object, Row& row) {
  const std::string& field = info.columns.kto_tag;
  dom::element value;
  if (field.empty()) bad_field("columns.kto_tag", "not named in dataset_info.json");
  if (object.at_key(field).get(value)) bad_field(field, "absent");
  if (value.get(row.desirable)) bad_field(field, fmt::format("{} where true or false is expected", type_name(value)));
  row.desirable = row.desirable && !row.conversation.messages.back().content.empty();
}

// Stage prompts: a row needs no answer of its own.
void add_no_answer(Row& row) {
  row.conversation.messages.push_back({Role::assistant, ""});
  row.unanswered = true;
}

void fill_alpaca(const DatasetInfo& info, dom::object object, Row& row) {
  const auto& columns = info.columns;
  auto& messages = row.conversation.messages;
  dom::element value;
  if (!columns.history.empty() && !object.at_key(columns.history).get(value) && value.is_array()) {
    size_t turn = 0;
    for (const dom::element pair : value.get_array()) {
      const std::string field = fmt::format("{}[{}]", columns.history, turn++);
      dom::array both;
      if (pair.get(both) || both.size() != 2) bad_field(field, "a list of two texts is expected: what was asked and what was answered");
      messages.push_back({Role::user, text_of(both.at(0).value(), field + "[0]")});
      messages.push_back({Role::assistant, answer_of(both.at(1).value(), field + "[1]")});
    }
  }
  std::string text = field_text(object, columns.prompt, true);
  const std::string query = field_text(object, columns.query, false);
  if (!text.empty() && !query.empty()) text += '\n';
  messages.push_back({Role::user, text + query});
  row.conversation.system = field_text(object, columns.system, false);
  row.conversation.tools = tools_field(object, columns.tools);
  if (info.stage == DataStage::pretraining || info.stage == DataStage::decisions) return;
  if (info.stage == DataStage::pairs) {
    const auto answer = [&](const std::string& field, const char* column) {
      dom::element text;
      if (field.empty()) bad_field(std::string("columns.") + column, "not named in dataset_info.json");
      if (object.at_key(field).get(text)) bad_field(field, "absent");
      return Message{Role::assistant, answer_of(text, field)};
    };
    messages.push_back(answer(columns.chosen, "chosen"));
    row.rejected = answer(columns.rejected, "rejected");
    return;
  }
  const bool absent = columns.response.empty() || object.at_key(columns.response).get(value);
  if (info.stage == DataStage::prompts && (absent || value.is_null())) return add_no_answer(row);
  if (absent) bad_field(columns.response.empty() ? "output" : columns.response, "absent");
  messages.push_back({Role::assistant, answer_of(value, columns.response)});
  if (info.stage == DataStage::feedback) take_tag(info, object, row);
}

// A content that is a list of parts, as OpenAI's and v1 of LLaMA-Factory have it: texts are joined, v1's thoughts stand before them as
// Qwen's do. Calls have to stand alone; they become the JSON text of their list.
std::string joined_parts(dom::array parts, const std::string& field, bool& calls) {
  std::string text;
  OrderedJson functions = OrderedJson::array();
  for (size_t i = 0; const dom::element part : parts) {
    const std::string place = fmt::format("{}[{}]", field, i++);
    dom::element type, value;
    if (part.at_key("type").get(type)) bad_field(place, "a part without `type`");
    const std::string kind = text_of(type, place + ".type");
    const char* key = part.at_key("value").get(value) ? "text" : "value";
    if (part.at_key(key).get(value))
      bad_field(place, fmt::format("a part of type {} without `value` or `text`: only texts are read", kind));
    std::string content = text_of(value, place + "." + key);
    if (kind == "text") {
      text += content;
    } else if (kind == "reasoning") {
      text += "<think>\n" + content + "\n</think>\n\n";
    } else if (kind == "tool_call") {
      functions.push_back(OrderedJson::parse(content, nullptr, false));
      if (!functions.back().is_object()) bad_field(place, "a tool_call that is no JSON object");
    } else {
      bad_field(place, fmt::format("a part of type {}: texts, reasoning and tool calls are read", kind));
    }
  }
  calls = !functions.empty();
  if (calls && !text.empty()) bad_field(field, "text beside tool calls, which have to stand alone");
  return calls ? python_json(functions) : text;
}

// v1 of LLaMA-Factory weighs the loss of each message; what it gives without a weight is what is done here.
void check_weight(const DatasetInfo& info, dom::object object, const std::string& role, const std::string& field) {
  dom::element value;
  if (object.at_key("loss_weight").get(value) || value.is_null()) return;
  const bool answer = role == info.tags.assistant || role == info.tags.function;
  double weight = 0;
  if (value.get(weight) || weight != (answer ? 1 : 0))
    bad_field(field + ".loss_weight",
              fmt::format("{}, and {} is expected of a message of {}", std::string(simdjson::minify(value)), answer ? 1 : 0, role));
}

// One message's role and text as they stand in the row.
struct RawMessage {
  std::string role, content;
};

RawMessage raw_message(const DatasetInfo& info, dom::element element, const std::string& field) {
  dom::object object;
  if (element.get(object))
    bad_field(field,
              fmt::format("{} where an object with `{}` and `{}` is expected", type_name(element), info.tags.role, info.tags.content));
  dom::element value;
  if (object.at_key(info.tags.role).get(value)) bad_field(field + "." + info.tags.role, "absent");
  RawMessage message{text_of(value, field + "." + info.tags.role), {}};
  if (info.formatting == Formatting::openai && (message.role == info.tags.assistant || message.role == info.tags.function)) {
    dom::array calls;
    if (!object.at_key("tool_calls").get(calls) && calls.size() > 0) {
      OrderedJson functions = OrderedJson::array();
      for (const dom::element call : calls) {
        dom::element function;
        if (call.at_key("function").get(function)) bad_field(field + ".tool_calls", "a call without `function`");
        functions.push_back(to_json(function, field + ".tool_calls"));
      }
      return {info.tags.function, python_json(functions)};
    }
  }
  if (object.at_key(info.tags.content).get(value)) bad_field(field + "." + info.tags.content, "absent");
  check_weight(info, object, message.role, field);
  if (dom::array parts; !value.get(parts)) {
    bool calls = false;
    message.content = joined_parts(parts, field + "." + info.tags.content, calls);
    if (calls && message.role != info.tags.assistant) bad_field(field, fmt::format("tool calls in a message of {}", message.role));
    if (calls) message.role = info.tags.function;
    return message;
  }
  const bool answer = message.role == info.tags.assistant;
  message.content = answer ? answer_of(value, field + "." + info.tags.content) : text_of(value, field + "." + info.tags.content);
  return message;
}

// Without tools, LLaMA-Factory's openai converter adds this to a system text that does not speak of thinking.
std::string openai_system(std::string system, bool tools) {
  const std::string quiet = "detailed thinking off";
  if (system.empty()) return tools ? system : quiet;
  if (tools) return system + "\n";
  if (system.find("detailed thinking on") != std::string::npos || system.find(quiet) != std::string::npos) return system;
  return system + "\n" + quiet;
}

void fill_messages(const DatasetInfo& info, dom::object object, Row& row) {
  const auto& columns = info.columns;
  const auto& tags = info.tags;
  if (columns.messages.empty()) bad_field("columns.messages", "not named in dataset_info.json");
  dom::element value;
  if (object.at_key(columns.messages).get(value)) bad_field(columns.messages, "absent");
  dom::array list;
  if (value.get(list)) bad_field(columns.messages, fmt::format("{} where a list of messages is expected", type_name(value)));
  std::vector<RawMessage> raw;
  for (const dom::element element : list) raw.push_back(raw_message(info, element, fmt::format("{}[{}]", columns.messages, raw.size())));

  auto& conversation = row.conversation;
  conversation.system = field_text(object, columns.system, false);
  conversation.tools = tools_field(object, columns.tools);
  size_t first = 0;
  if (!tags.system.empty() && !raw.empty() && raw.front().role == tags.system) {
    conversation.system = raw.front().content;
    first = 1;
  }
  const auto role_of = [&](const std::string& tag) -> std::optional<Role> {
    if (tag.empty()) return std::nullopt;
    if (tag == tags.user) return Role::user;
    if (tag == tags.assistant) return Role::assistant;
    if (tag == tags.observation) return Role::observation;
    if (tag == tags.function) return Role::function;
    return std::nullopt;
  };
  std::optional<std::string> observations;
  auto& messages = conversation.messages;
  const auto flush = [&] {
    if (observations) messages.push_back({Role::observation, std::move(*observations)});
    observations.reset();
  };
  for (size_t i = first; i < raw.size(); ++i) {
    const auto role = role_of(raw[i].role);
    if (!role) {
      const bool system = !tags.system.empty() && raw[i].role == tags.system;
      bad_field(fmt::format("{}[{}].{}", columns.messages, i, tags.role),
                system ? "a system message that is not the first message; only one, at the beginning, is possible"
                       : fmt::format("role `{}` is not one of {}, {}, {}, {}", raw[i].role, tags.user, tags.assistant, tags.observation,
                                     tags.function));
    }
    if (info.formatting == Formatting::openai) {
      if (*role == Role::observation) {
        observations = observations ? fmt::format("{}{}{}", *observations, kBetweenResults, raw[i].content) : raw[i].content;
        continue;
      }
      flush();
    }
    messages.push_back({*role, std::move(raw[i].content)});
  }
  if (info.stage == DataStage::pairs) {
    const auto answer = [&](const std::string& field, const char* column) {
      dom::element element;
      if (field.empty()) bad_field(std::string("columns.") + column, "not named in dataset_info.json");
      if (object.at_key(field).get(element)) bad_field(field, "absent");
      RawMessage message = raw_message(info, element, field);
      const auto role = role_of(message.role);
      if (!role) bad_field(field + "." + tags.role, fmt::format("role `{}` is not known", message.role));
      return Message{*role, std::move(message.content)};
    };
    messages.push_back(answer(columns.chosen, "chosen"));
    row.rejected = answer(columns.rejected, "rejected");
  }
  const size_t compared = info.stage == DataStage::pairs ? 1 : 0;  // LLaMA-Factory takes answers of any role
  for (size_t i = 0; i + compared < messages.size(); ++i) {
    const bool asks = messages[i].role == Role::user || messages[i].role == Role::observation;
    if (asks != (i % 2 == 0))
      bad_field(columns.messages, fmt::format("message {} breaks the alternation of {} and {}", i + 1, tags.user, tags.assistant));
  }
  if (info.stage == DataStage::decisions) {
    if (messages.size() % 2 != 1 || messages.back().role != Role::user)
      bad_field(columns.messages, fmt::format("the last message is none of {}: the choices are the answers to it", tags.user));
    return;
  }
  if (info.stage == DataStage::prompts && messages.size() % 2 != 0) add_no_answer(row);
  if (messages.empty() || messages.size() % 2 != 0)
    bad_field(columns.messages, info.stage == DataStage::pairs
                                    ? std::string("the last message is no question; two answers to one are expected behind it")
                                    : fmt::format("{} messages; pairs of a question and an answer are expected", messages.size()));
  if (info.formatting == Formatting::openai && info.thinking_note)
    conversation.system = openai_system(std::move(conversation.system), !conversation.tools.empty());
  if (info.stage == DataStage::feedback) take_tag(info, object, row);
}

std::vector<int32_t> id_list(dom::object object, const std::string& field, int64_t least) {
  dom::element value;
  dom::array list;
  if (object.at_key(field).get(value)) bad_field(field, "absent");
  if (value.get(list)) bad_field(field, fmt::format("{} where a list of token ids is expected", type_name(value)));
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const dom::element item : list) {
    int64_t id = 0;
    if (item.get(id))
      bad_field(fmt::format("{}[{}]", field, ids.size()), fmt::format("{} where a whole number is expected", type_name(item)));
    if (id > 0x7fffffff || (id < 0 && id != least))
      bad_field(fmt::format("{}[{}]", field, ids.size()), fmt::format("{} is not a token id", id));
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

void fill_tokens(const DatasetInfo& info, dom::object object, Row& row) {
  Example example;
  example.input_ids = id_list(object, info.columns.input_ids, 0);
  example.labels = id_list(object, info.columns.labels, kIgnoreLabel);
  if (example.input_ids.size() != example.labels.size())
    bad_field(info.columns.labels, fmt::format("{} labels for {} token ids", example.labels.size(), example.input_ids.size()));
  if (example.input_ids.empty()) bad_field(info.columns.input_ids, "empty");
  row.tokens = std::move(example);
}

}  // namespace

void fill_row(const DatasetInfo& info, dom::element element, Row& row) {
  dom::object object;
  if (element.get(object)) {
    if (element.is_string() && info.formatting == Formatting::alpaca && info.columns.prompt == "text" &&
        info.stage == DataStage::pretraining)
      return row.conversation.messages.push_back({Role::user, text_of(element, "text")});  // a list of bare texts
    throw Error(ErrorKind::bad_data, fmt::format("{} where an object is expected: a row is a JSON object", type_name(element)));
  }
  if (info.formatting != Formatting::tokenized) check_columns(info, object);
  switch (info.formatting) {
    case Formatting::alpaca: fill_alpaca(info, object, row); break;
    case Formatting::sharegpt:
    case Formatting::openai: fill_messages(info, object, row); break;
    case Formatting::tokenized: fill_tokens(info, object, row); return;
  }
  if (info.stage == DataStage::decisions) row.decision = std::make_shared<const DecisionRow>(read_decision(info, object));
}

}  // namespace loraine
