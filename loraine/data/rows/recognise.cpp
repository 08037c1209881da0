// Fields of the sample, then one rule per layout. Called through recognise.h.
#include "loraine/data/rows/recognise.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Names = std::vector<std::string>;

// Names that such columns have, in lower case. Where two of a list stand in the same rows, which one is meant is not guessed.
const Names kAsked = {"instruction", "question", "prompt", "query", "input", "user", "human", "q", "问题", "提问", "指令", "问", "输入"};
const Names kAnswers = {"output", "answer", "response", "completion", "reply", "assistant", "a", "回答", "答案", "回复", "输出", "答"};
const Names kBeside = {"input", "context", "输入"};  // what an instruction is about
const Names kTexts = {"text", "content", "文本", "内容", "正文"};
const Names kTalks = {"messages", "conversations", "conversation", "dialogue", "dialog", "chat"};
const std::pair<const char*, const char*> kMessageKeys[] = {{"from", "value"},   {"role", "content"}, {"role", "value"},
                                                            {"from", "content"}, {"role", "text"},    {"speaker", "text"}};

struct Field {
  std::string name;
  Names kinds;                   // of its values that are not null
  bool text = true, ids = true;  // all of them are texts; lists of whole numbers
  bool talk = true;              // lists of messages
  std::string role_key, content_key;
  Names roles;
  bool calls = false;  // messages with tool_calls
  std::string kind() const { return kinds.empty() ? "null" : fmt::format("{}", fmt::join(kinds, " or ")); }
};

void add_once(Names& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

bool contains(const Names& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

Names keys_of(const OrderedJson& object) {
  Names keys;
  for (const auto& [key, value] : object.items()) keys.push_back("`" + key.substr(0, 40) + "`");
  if (keys.size() > 6) keys.resize(6);
  return keys;
}

std::string kind_of(const OrderedJson& value) {
  if (value.is_string()) return "a text";
  if (value.is_number()) return "a number";
  if (value.is_boolean()) return "true or false";
  if (value.is_object()) return fmt::format("an object with {}", fmt::join(keys_of(value), ", "));
  if (!value.is_array() || value.empty()) return "an empty list";
  const OrderedJson& first = value.front();
  if (first.is_object()) return fmt::format("a list of objects with {}", fmt::join(keys_of(first), ", "));
  return first.is_string() ? "a list of texts" : first.is_number() ? "a list of numbers" : "a list";
}

bool is_ids(const OrderedJson& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const OrderedJson& item) { return item.is_number_integer(); });
}

// Whether a value is a list of messages; notes its keys and roles.
bool take_messages(Field& field, const OrderedJson& value) {
  if (!value.is_array()) return false;
  for (const OrderedJson& message : value) {
    if (!message.is_object()) return false;
    if (field.role_key.empty())
      for (const auto& [role, content] : kMessageKeys)
        if (field.role_key.empty() && message.contains(role) && message.contains(content))
          field.role_key = role, field.content_key = content;
    if (field.role_key.empty() || !message.contains(field.role_key) || !message[field.role_key].is_string()) return false;
    add_once(field.roles, message[field.role_key].get<std::string>().substr(0, 40));
    field.calls = field.calls || message.contains("tool_calls");
  }
  return true;
}

std::vector<Field> fields_of(const std::vector<OrderedJson>& rows) {
  std::vector<Field> fields;
  for (const OrderedJson& row : rows)
    for (const auto& [name, value] : row.items()) {
      auto field = std::find_if(fields.begin(), fields.end(), [&name = name](const Field& f) { return f.name == name; });
      if (field == fields.end()) field = fields.insert(fields.end(), Field{name});
      if (value.is_null()) continue;
      if (field->kinds.size() < 3) add_once(field->kinds, kind_of(value));
      field->text = field->text && value.is_string();
      field->ids = field->ids && is_ids(value);
      field->talk = field->talk && take_messages(*field, value);
    }
  for (Field& field : fields) {
    field.talk = field.talk && !field.roles.empty();
    field.text = field.text && !field.kinds.empty();
    field.ids = field.ids && !field.kinds.empty();
  }
  return fields;
}

// Lists that a table holds as text.
void unpack_cells(std::vector<OrderedJson>& rows) {
  Names lists, others;
  for (const OrderedJson& row : rows)
    for (const auto& [name, value] : row.items())
      if (value.is_string()) {
        const OrderedJson list = OrderedJson::parse(value.get_ref<const std::string&>(), nullptr, false);
        add_once(list.is_array() ? lists : others, name);
      }
  for (OrderedJson& row : rows)
    for (auto& [name, value] : row.items())
      if (value.is_string() && contains(lists, name) && !contains(others, name)) value = OrderedJson::parse(value.get<std::string>());
}

struct Recogniser {
  DatasetInfo info;
  std::vector<Field> fields;
  std::string why;  // what stood in the way, for the refusal

  const Field* find(const char* name) const {
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return lower_case(f.name) == name; });
    return field == fields.end() ? nullptr : &*field;
  }
  // Fields of a kind that have one of the names, in the order of the names.
  std::vector<const Field*> named(const Names& names, bool Field::*kind) const {
    std::vector<const Field*> found;
    for (const std::string& name : names)
      if (const Field* field = find(name.c_str()); field && field->*kind) found.push_back(field);
    return found;
  }
  static std::string names_of(const std::vector<const Field*>& some) {
    Names names;
    for (const Field* field : some) names.push_back("`" + field->name + "`");
    return fmt::format("{}", fmt::join(names, " and "));
  }

  void clear() { info.columns = {"", "", "", "", "", "", "", "", "", "", "", "", "", "", ""}; }
  void take_system_and_tools() {
    if (const Field* system = find("system"); system && system->text) info.columns.system = system->name;
    if (const Field* tools = find("tools"); tools && !tools->kinds.empty()) info.columns.tools = tools->name;
  }

  bool tokens() {
    const Field *ids = find("input_ids"), *labels = find("labels");
    if (!ids || !labels || !ids->ids || !labels->ids) return false;
    clear();
    info.formatting = Formatting::tokenized;
    info.columns.input_ids = ids->name;
    info.columns.labels = labels->name;
    return true;
  }

  // The tag of a role among those of the rows.
  bool role(const Field& field, const Names& spellings, const char* what, std::string& tag, Names& known) {
    tag.clear();
    for (const std::string& spelling : field.roles)
      if (contains(spellings, lower_case(spelling))) {
        known.push_back(spelling);
        if (!tag.empty()) why = fmt::format("in `{}` both {} and {} are roles of {}", field.name, tag, spelling, what);
        if (!tag.empty()) return false;
        tag = spelling;
      }
    return true;
  }

  bool talk() {
    std::vector<const Field*> talks = named(kTalks, &Field::talk);
    if (talks.empty())
      for (const Field& field : fields)
        if (field.talk) talks.push_back(&field);
    if (talks.size() > 1) why = names_of(talks) + " are all lists of messages";
    if (talks.size() != 1) return false;
    const Field& field = *talks[0];
    Names known;
    auto& tags = info.tags;
    if (!role(field, {"user", "human", "prompter"}, "who asks", tags.user, known) ||
        !role(field, {"assistant", "gpt", "bot", "model", "chatgpt"}, "who answers", tags.assistant, known) ||
        !role(field, {"system"}, "the system", tags.system, known) ||
        !role(field, {"tool", "observation", "tool_response"}, "what tools return", tags.observation, known) ||
        !role(field, {"function_call", "tool_call"}, "calls", tags.function, known))
      return false;
    if (info.stage == DataStage::decisions && tags.assistant.empty()) tags.assistant = field.role_key == "role" ? "assistant" : "gpt";
    if (info.stage == DataStage::prompts && tags.assistant.empty()) tags.assistant = "assistant";  // there need be none
    if (known.size() < field.roles.size() || tags.user.empty() || tags.assistant.empty()) {
      why = fmt::format("the roles in `{}` are {}", field.name, fmt::join(field.roles, ", "));
      return false;
    }
    clear();
    const bool tools = field.calls || field.role_key == "role";
    info.formatting = tools ? Formatting::openai : Formatting::sharegpt;
    info.thinking_note = false;
    if (tags.function.empty()) tags.function = "function_call";
    if (tags.observation.empty()) tags.observation = tools ? "tool" : "observation";
    tags.role = field.role_key;
    tags.content = field.content_key;
    info.columns.messages = field.name;
    take_system_and_tools();
    return true;
  }

  bool pair() {
    std::vector<const Field*> asked = named(kAsked, &Field::text), answers = named(kAnswers, &Field::text);
    if (asked.empty() || (answers.empty() && info.stage != DataStage::prompts)) return false;
    std::string beside;
    if (const std::string first = lower_case(asked[0]->name); first == "instruction" || first == "指令") {
      const auto more = named(kBeside, &Field::text);
      if (more.size() == 1) beside = more[0]->name;
      std::erase_if(asked, [&](const Field* field) { return field->name == beside; });
    }
    if (asked.size() > 1) why = names_of(asked) + " may all be what is asked";
    if (answers.size() > 1) why = names_of(answers) + " may all be the answer";
    if (asked.size() > 1 || answers.size() > 1) return false;
    clear();
    info.formatting = Formatting::alpaca;
    info.columns.prompt = asked[0]->name;
    info.columns.query = beside;
    if (!answers.empty()) info.columns.response = answers[0]->name;
    if (const Field* history = find("history"); history && !history->text && !history->kinds.empty()) info.columns.history = history->name;
    take_system_and_tools();
    return true;
  }

  // Two answers to one question: texts beside it, or messages behind a conversation.
  bool preferences() {
    const Field *chosen = find("chosen"), *rejected = find("rejected");
    if (chosen->text && rejected->text) {
      const std::vector<const Field*> asked = named(kAsked, &Field::text);
      if (asked.size() != 1) why = names_of(asked) + " may all be what is asked";
      if (asked.size() != 1) return false;
      clear();
      info.formatting = Formatting::alpaca;
      info.columns.prompt = asked[0]->name;
      take_system_and_tools();
    } else if (!talk()) {
      return false;
    }
    info.ranking = true;
    info.columns.chosen = chosen->name;
    info.columns.rejected = rejected->name;
    return true;
  }

  // Answers of which a field says whether they are good.
  bool judged() {
    Names tags;
    for (const Field& field : fields)
      if (field.kinds == Names{"true or false"}) tags.push_back(field.name);
    if (tags.size() != 1)
      why = tags.empty() ? "none is true or false" : fmt::format("{} may all say what is good", fmt::join(tags, " and "));
    if (tags.size() != 1 || (!talk() && !pair())) return false;
    info.columns.kto_tag = tags[0];
    return true;
  }

  // A text, or a conversation, with choices and which of them is right.
  bool decision() {
    const Field *choices = find("choices"), *label = find("label"), *question = find("question");
    if (!label) why = "there is no `label`";
    else if (!choices && label->kinds != Names{"true or false"}) why = "there are no `choices`, and `label` is not true or false";
    if (!why.empty()) return false;
    if (!question) question = find("instructions");
    std::vector<const Field*> texts = named(kTexts, &Field::text);
    if (texts.empty()) texts = named(kAsked, &Field::text);
    if (talk()) {
      texts.clear();
    } else {
      if (texts.size() > 1 && question) std::erase(texts, question);
      if (texts.size() > 1 && lower_case(texts[0]->name) == kTexts[0]) texts.resize(1);
      if (texts.size() != 1 && why.empty())
        why = texts.empty() ? "there is neither `messages` nor `text`" : names_of(texts) + " may all be the text";
      if (texts.size() != 1) return false;
      clear();
      info.formatting = Formatting::alpaca;
      info.columns.prompt = texts[0]->name;
      take_system_and_tools();
    }
    info.columns.choices = choices ? choices->name : "choices";
    info.columns.label = label->name;
    if (question && question->text && (texts.empty() || question != texts[0])) info.columns.question = question->name;
    return true;
  }

  bool text() {
    std::vector<const Field*> texts = named(kTexts, &Field::text);
    if (texts.empty() &&
        ((info.stage == DataStage::pretraining) || fields.size() == 1))  // beside others it may as well be half of a question and answer
      for (const Field& field : fields)
        if (field.text) texts.push_back(&field);
    const bool plain = !texts.empty() && lower_case(texts[0]->name) == kTexts[0];
    if (texts.size() > 1 && !plain) why = names_of(texts) + " may all be the text";
    if (texts.empty() || (texts.size() > 1 && !plain)) return false;
    clear();
    info.formatting = Formatting::alpaca;
    info.columns.prompt = texts[0]->name;
    return true;
  }

  // The fields that are read, in words, and those that are not.
  std::string words() const {
    const auto& c = info.columns;
    Names read, more;
    for (const std::string* name : {&c.system, &c.tools, &c.history, &c.chosen, &c.rejected, &c.kto_tag, &c.question})
      if (!name->empty()) more.push_back(*name);
    std::string out;
    if (info.formatting == Formatting::tokenized) {
      out = "token ids";
      read = {c.input_ids, c.labels};
    } else if (!c.messages.empty()) {
      out = fmt::format("conversations in `{}` ({} and {}: {}, {})", c.messages, info.tags.role, info.tags.content, info.tags.user,
                        info.tags.assistant);
      read = {c.messages};
    } else if (!c.chosen.empty()) {
      out = fmt::format("questions with two answers: `{}` → `{}` rather than `{}`", c.prompt, c.chosen, c.rejected);
      read = {c.prompt};
    } else if (c.response.empty() && info.stage == DataStage::prompts) {
      out = fmt::format("questions in `{}`{}", c.prompt, c.query.empty() ? "" : " + `" + c.query + "`");
      read = {c.prompt, c.query};
    } else if (c.response.empty()) {
      out = fmt::format("plain texts in `{}`", c.prompt);
      read = {c.prompt};
    } else {
      out = fmt::format("questions and answers: `{}`{} → `{}`", c.prompt, c.query.empty() ? "" : " + `" + c.query + "`", c.response);
      read = {c.prompt, c.query, c.response};
    }
    if (info.stage == DataStage::decisions && !c.label.empty()) {
      out += fmt::format("; `{}` among `{}`", c.label, c.choices);
      read.insert(read.end(), {c.label, c.choices});
    }
    if (!more.empty()) out += fmt::format("; also {}", fmt::join(more, ", "));
    read.insert(read.end(), more.begin(), more.end());
    Names unread;
    for (const Field& field : fields)
      if (!contains(read, field.name)) unread.push_back(field.name);
    if (unread.size() > 8) {
      unread.resize(8);
      unread.push_back("…");
    }
    return unread.empty() ? out : out + fmt::format("; not read: {}", fmt::join(unread, ", "));
  }

  // An entry for dataset_info.json to correct: the texts taken in turn for question and answer.
  std::string entry() const {
    Names texts;
    const Field* messages = nullptr;
    for (const Field& field : fields) {
      if (field.text) texts.push_back(field.name);
      if (field.talk && !messages) messages = &field;
    }
    std::error_code failed;
    const std::filesystem::path place = std::filesystem::absolute(std::filesystem::path(info.folder) / info.file_name, failed);
    OrderedJson columns, one = {{"file_name", place.lexically_normal().string()}};
    if (messages) {
      one["formatting"] = "sharegpt";
      one["tags"] = {{"role_tag", messages->role_key},
                     {"content_tag", messages->content_key},
                     {"user_tag", "NAME OF WHO ASKS"},
                     {"assistant_tag", "NAME OF WHO ANSWERS"}};
      columns = {{"messages", messages->name}};
    } else if (info.stage == DataStage::decisions) {
      columns = {{"prompt", texts.empty() ? "FIELD OF THE TEXT" : texts[0]},
                 {"choices", "FIELD OF THE CHOICES"},
                 {"label", "FIELD OF THE RIGHT ONE"}};
    } else if ((info.stage == DataStage::pretraining)) {
      columns = {{"prompt", texts.empty() ? "FIELD OF THE TEXT" : texts[0]}};
    } else {
      columns = {{"prompt", texts.empty() ? "FIELD OF THE QUESTION" : texts[0]},
                 {"response", texts.size() < 2 ? "FIELD OF THE ANSWER" : texts[1]}};
    }
    one["columns"] = columns;
    std::string name = place.filename().string();
    name.resize(std::min(name.find('.'), name.size()));
    return OrderedJson{{name.empty() ? "mine" : name, one}}.dump();
  }

  [[noreturn]] void refuse() const {
    Names list;
    for (const Field& field : fields) list.push_back(fmt::format("`{}` ({})", field.name.substr(0, 60), field.kind()));
    if (list.size() > 30) list.resize(30);
    throw Error(
        ErrorKind::bad_data,
        fmt::format("{}: what its rows are cannot be told from their fields{}: {}", info.name, why.empty() ? "" : " (" + why + ")",
                    list.empty() ? "they have none" : fmt::format("{}", fmt::join(list, ", "))),
        fmt::format("say it in dataset_info.json of dataset_dir, with the fields put right, and give the name there as dataset:\n{}",
                    entry()));
  }
};

}  // namespace

void RowSample::add(simdjson::dom::element row) {
  OrderedJson json = OrderedJson::parse(std::string(simdjson::minify(row)));
  if (json.is_string()) json = OrderedJson{{"text", json}};  // a list of bare texts
  if (!json.is_object())
    throw Error(ErrorKind::bad_data, fmt::format("{} where an object is expected: a row is a JSON object", kind_of(json)));
  rows.push_back(std::move(json));
}

DatasetInfo recognise_rows(const DatasetInfo& info, RowSample sample, std::string* words) {
  if (sample.cells) unpack_cells(sample.rows);
  Recogniser recogniser{info, fields_of(sample.rows), {}};
  recogniser.info.recognise = false;
  const auto refuse_stage = [&](const std::string& stage) {
    throw Error(ErrorKind::usage,
                fmt::format("{}: {}, and stage {} does not train on such rows", info.name, recogniser.words(),
                            info.stage == DataStage::pretraining ? "pt"
                            : info.stage == DataStage::prompts   ? "grpo"
                                                                 : "sft"),
                "set stage: " + stage);
  };
  const bool preferences = recogniser.find("chosen") && recogniser.find("rejected");
  if (preferences && info.stage != DataStage::pairs)
    throw Error(
        ErrorKind::usage,
        fmt::format("{}: a ranking set (`chosen`, `rejected`), which stages rm and dpo compare; this stage trains on single answers",
                    info.name));
  if (info.stage == DataStage::pairs || info.stage == DataStage::feedback || info.stage == DataStage::decisions) {
    const bool found = info.stage == DataStage::pairs      ? preferences && recogniser.preferences()
                       : info.stage == DataStage::feedback ? recogniser.judged()
                                                           : recogniser.decision();
    if (!found) recogniser.refuse();
    if (words) *words = fmt::format("{}: {}", info.name, recogniser.words());
    return recogniser.info;
  }
  const bool tokens = recogniser.tokens();
  if (!tokens && (info.stage == DataStage::pretraining)) {
    if (!recogniser.find("text") && (recogniser.talk() || recogniser.pair())) refuse_stage("sft");
    if (!recogniser.text()) recogniser.refuse();
  } else if (!tokens && !recogniser.talk() && !recogniser.pair()) {
    if (recogniser.why.empty() && recogniser.text()) refuse_stage("pt, or name the column of the answers in dataset_info.json");
    recogniser.refuse();
  }
  if (words) *words = fmt::format("{}: {}", info.name, recogniser.words());
  return recogniser.info;
}

}  // namespace loraine
