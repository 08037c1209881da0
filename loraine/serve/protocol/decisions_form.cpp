// See decisions_form.h.
#include "loraine/serve/protocol/decisions_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

using Kind = DecisionKind;
constexpr size_t kMostQuestions = 400, kLongestName = 1024;

bool is_text_part(const WireJson& part) {
  if (!part.is_object() || !part.contains("type") || !part.contains("text") || !part["text"].is_string()) return false;
  const WireJson& type = part["type"];
  return type == "input_text" || type == "output_text" || type == "text";
}

bool is_json_part(const WireJson& part) {
  return part.is_object() && part.contains("type") && part["type"] == "input_json" && part.contains("data") && part["data"].is_structured();
}

// A string, or parts that are texts or JSON; System One has any JSON too, which is shown as it is. `place` is for errors.
std::string content_of(const WireJson& value, bool any_json, const std::string& place) {
  if (value.is_string()) return value.get<std::string>();
  if (any_json && value.is_structured()) return value.dump();
  std::string text;
  const bool parts = value.is_array() && !value.empty();
  for (const WireJson& part : parts ? value : WireJson::array()) {
    if (!text.empty()) text += '\n';
    if (is_text_part(part)) text += part["text"].get<std::string>();
    else if (is_json_part(part)) text += part["data"].dump();
    else throw ApiError{400, place + " has a part that is no text: only input_text and input_json are taken", place};
  }
  if (!parts)
    throw ApiError{400,
                   fmt::format("{} is {}, expected was {}", place, shown(value),
                               any_json ? "a string, an object or a list" : "a string or a list of parts"),
                   place};
  return text;
}

[[noreturn]] void bad_question(const std::string& place, const std::string& expected) {
  throw ApiError{400, fmt::format("{} does not fit, expected was {}", place, expected), place};
}

void add_option(DecisionQuestion& question, WireJson value, const std::string& said, const std::string& place) {
  if (std::ranges::find(question.values, value) != question.values.end()) bad_question(place, "options that differ");
  question.values.push_back(std::move(value));
  question.shown.push_back(said);
}

// "name" or "name: what it means".
std::string with_description(const std::string& name, Fields& option) {
  const std::string description = option.text("description").value_or("");
  return description.empty() ? name : name + ": " + description;
}

// Levels that are numbers have an expected value.
void finish_question(DecisionQuestion& question) {
  label_choices(question);
  if (question.kind != Kind::score) return;
  for (const WireJson& level : question.values) {
    const std::string text = level.get<std::string>();
    char* end = nullptr;
    question.numbers.push_back(std::strtod(text.c_str(), &end));
    if (text.empty() || *end || !std::isfinite(question.numbers.back())) return question.numbers.clear();
  }
}

DecisionQuestion read_question(const WireJson& value, const std::string& place) {
  if (!value.is_object()) bad_question(place, "an object with type and instructions");
  Fields fields(value, place + ".");
  DecisionQuestion question;
  const std::string type = fields.required_text("type", 64);
  question.name = fields.text("name", kLongestName).value_or("");
  const WireJson* instructions = fields.any("instructions");
  if (instructions) question.instructions = content_of(*instructions, false, place + ".instructions");
  if (type == "predicate") {
    if (!instructions) question.instructions = question.name;
    if (!instructions && question.instructions.empty()) fields.fail("instructions", "what may be true of the input");
    question.values = {true, false};
    question.shown = {"", ""};
  } else if (type == "choice") {
    question.kind = Kind::choice;
    const WireJson* choices = fields.array("choices", kMostChoices);
    if (!choices || choices->size() < 2) fields.fail("choices", fmt::format("a list of 2 to {} objects with value", kMostChoices));
    for (const WireJson& one : *choices) {
      if (!one.is_object() || !one.contains("value") || !(one["value"].is_string() || one["value"].is_boolean()))
        bad_question(place + ".choices", "objects whose value is a string, true or false");
      Fields option(one, place + ".choices.");
      const WireJson& given = one["value"];
      add_option(question, given, with_description(given.is_string() ? given.get<std::string>() : given.dump(), option),
                 place + ".choices");
    }
  } else if (type == "score") {
    question.kind = Kind::score;
    const WireJson* levels = fields.array("levels", kMostChoices);
    if (!levels || levels->size() < 2)
      fields.fail("levels", fmt::format("a list of 2 to {} objects with label, the lowest first", kMostChoices));
    for (const WireJson& one : *levels) {
      if (!one.is_object()) bad_question(place + ".levels", "objects with label");
      Fields option(one, place + ".levels.");
      const std::string label = option.required_text("label", kLongestName);
      add_option(question, label, with_description(label, option), place + ".levels");
    }
  } else {
    fields.fail("type", "predicate, choice or score");
  }
  finish_question(question);
  return question;
}

DecisionQuestion read_system_one_question(const std::string& id, const WireJson& value) {
  const std::string place = "questions." + id;
  if (!value.is_object()) bad_question(place, "an object with type and instructions");
  Fields fields(value, place + ".");
  DecisionQuestion question;
  question.name = id;
  const std::string type = fields.required_text("type", 64);
  const WireJson* instructions = fields.any("instructions");
  if (!instructions) fields.fail("instructions", "a string, an object or a list");
  question.instructions = content_of(*instructions, true, place + ".instructions");
  if (type == "noul") {
    const WireJson* criteria = fields.object("criteria");
    question.values = {true, false};
    const WireJson means = criteria ? *criteria : WireJson::object();
    Fields said(means, place + ".criteria.");
    for (const char* key : {"true", "false"}) question.shown.push_back(said.text(key).value_or(""));
  } else if (type == "choice") {
    question.kind = Kind::choice;
    const WireJson* criteria = fields.object("criteria");
    if (!criteria || criteria->size() < 2 || criteria->size() > kMostChoices)
      fields.fail("criteria", fmt::format("an object of 2 to {} choices, each with a description or null", kMostChoices));
    for (const auto& [key, description] : criteria->items()) {
      if (!description.is_null() && !description.is_string()) bad_question(place + ".criteria", "descriptions that are strings or null");
      add_option(question, key, description.is_string() ? key + ": " + description.get<std::string>() : key, place + ".criteria");
    }
  } else if (type == "score") {
    question.kind = Kind::score;
    const WireJson* criteria = fields.array("criteria", kMostChoices);
    if (!criteria || criteria->size() < 2)
      fields.fail("criteria", fmt::format("a list of 2 to {} descriptions, the lowest first", kMostChoices));
    for (const WireJson& one : *criteria) {
      if (!one.is_string()) bad_question(place + ".criteria", "strings");
      question.values.push_back(one);
      question.shown.push_back(one.get<std::string>());
    }
  } else {
    fields.fail("type", "noul, choice or score");
  }
  finish_question(question);
  return question;
}

// The input's messages as chat takes them; what is refused of them is told of `input`.
WireJson read_input(const WireJson& input) {
  if (input.is_string()) return WireJson::array({{{"role", "user"}, {"content", input}}});
  WireJson items = input;
  for (size_t i = 0; input.is_array() && i < items.size(); ++i)
    if (items[i].is_object() && items[i].contains("content") && items[i]["content"].is_array())
      items[i]["content"] = content_of(items[i]["content"], false, fmt::format("input[{}].content", i));
  const WireJson body = {{"messages", std::move(items)}};
  try {
    Fields fields(body);
    return read_messages(fields);
  } catch (ApiError& error) {
    for (std::string* text : {&error.message, &error.param})
      if (text->starts_with("messages")) text->replace(0, 8, "input");
    throw;
  }
}

// Σ probability · number.
double expected_number(const DecisionQuestion& question, const LabelShares& shares) {
  double sum = 0;
  for (size_t i = 0; i < question.numbers.size(); ++i) sum += question.numbers[i] * shares.probabilities[i];
  return sum;
}

double expected_level(const std::vector<double>& probabilities) {
  double sum = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) sum += static_cast<double>(i) * probabilities[i];
  return sum;
}

}  // namespace

AskedDecisions read_decisions(const WireJson& body, bool strict) {
  Fields fields(body);
  AskedDecisions asked;
  asked.model = fields.text("model", 512).value_or("");
  const WireJson* input = fields.any("input");
  if (!input || !(input->is_string() || input->is_array())) fields.fail("input", "a string or a list of messages");
  asked.messages = read_input(*input);
  const WireJson* questions = fields.array("questions", kMostQuestions);
  if (!questions || questions->empty()) fields.fail("questions", fmt::format("a list of 1 to {} questions", kMostQuestions));
  for (size_t i = 0; i < questions->size(); ++i) asked.questions.push_back(read_question((*questions)[i], fmt::format("questions[{}]", i)));
  fields.any("prompt_cache_options");
  asked.ignored = refuse_or_ignore(fields, body, strict);
  return asked;
}

AskedDecisions read_system_one(const WireJson& body, bool strict) {
  Fields fields(body);
  AskedDecisions asked;
  asked.model = fields.text("model", 512).value_or("");
  const WireJson* state = fields.any("state");
  if (!state) fields.fail("state", "a string, an object or a list");
  asked.messages = WireJson::array({{{"role", "user"}, {"content", content_of(*state, true, "state")}}});
  const WireJson* questions = fields.object("questions");
  if (!questions || questions->empty() || questions->size() > kMostQuestions)
    fields.fail("questions", fmt::format("an object of 1 to {} questions", kMostQuestions));
  for (const auto& [id, one] : questions->items()) asked.questions.push_back(read_system_one_question(id, one));
  fields.any("keep_alive");
  asked.ignored = refuse_or_ignore(fields, body, strict);
  return asked;
}

WireJson messages_with(const AskedDecisions& asked, const DecisionQuestion& question) {
  const std::string text = decision_text(question);
  WireJson messages = asked.messages;
  WireJson& last = messages.back();
  if (last["role"] == "user") last["content"] = last["content"].get<std::string>() + "\n\n" + text;
  else messages.push_back({{"role", "user"}, {"content", text}});
  return messages;
}

WireJson decisions_json(const AskedDecisions& asked, const Decided& decided, const std::string& model) {
  WireJson answers = WireJson::array();
  for (size_t q = 0; q < asked.questions.size(); ++q) {
    const DecisionQuestion& question = asked.questions[q];
    const LabelShares& shares = decided.shares[q];
    WireJson answer = {{"type", question.kind == Kind::yes_no   ? "predicate"
                                : question.kind == Kind::choice ? "choice"
                                                                : "score"},
                       {"name", question.name.empty() ? WireJson() : WireJson(question.name)}};
    if (question.kind == Kind::yes_no) {
      answer["probability"] = shares.probabilities[0];
      answers.push_back(std::move(answer));
      continue;
    }
    WireJson all = WireJson::array();
    for (size_t i = 0; i < question.values.size(); ++i) {
      WireJson one = {{"value", question.kind == Kind::choice ? question.values[i] : WireJson(i)}};
      if (question.kind == Kind::score) one["label"] = question.values[i];
      one["probability"] = shares.probabilities[i];
      all.push_back(std::move(one));
    }
    if (question.kind == Kind::choice) answer["choice"] = question.values[shares.likeliest];
    else answer["score"] = expected_level(shares.probabilities);
    if (!question.numbers.empty()) answer["expected_value"] = expected_number(question, shares);
    answer["probabilities"] = std::move(all);
    answer["confidence"] = shares.confidence();
    answers.push_back(std::move(answer));
  }
  return {{"model", model},
          {"answers", std::move(answers)},
          {"usage",
           {{"input_tokens", decided.prompt_tokens},
            {"input_tokens_details", {{"cached_tokens", decided.cached_tokens}, {"cache_write_tokens", 0}}},
            {"output_tokens", 0},
            {"output_tokens_details", {{"reasoning_tokens", 0}}},
            {"total_tokens", decided.prompt_tokens}}}};
}

WireJson system_one_json(const AskedDecisions& asked, const Decided& decided, const std::string& model) {
  WireJson answers = WireJson::object();
  for (size_t q = 0; q < asked.questions.size(); ++q) {
    const DecisionQuestion& question = asked.questions[q];
    const LabelShares& shares = decided.shares[q];
    if (question.kind == Kind::yes_no) {
      answers[question.name] = {{"type", "noul"}, {"noul", shares.probabilities[0]}};
      continue;
    }
    WireJson all = WireJson::object(), legend = WireJson::object();
    for (size_t i = 0; i < question.values.size(); ++i) {
      const std::string key = question.kind == Kind::choice ? question.values[i].get<std::string>() : std::to_string(i);
      all[key] = shares.probabilities[i];
      if (question.kind == Kind::score) legend[key] = question.values[i];
    }
    WireJson answer = {{"type", question.kind == Kind::choice ? "choice" : "score"}};
    if (question.kind == Kind::choice) answer["choice"] = question.values[shares.likeliest];
    else answer["score"] = expected_level(shares.probabilities), answer["legend"] = std::move(legend);
    if (!question.numbers.empty()) answer["expected_value"] = expected_number(question, shares);
    answer["probabilities"] = std::move(all);
    answer["confidence"] = shares.confidence();
    answers[question.name] = std::move(answer);
  }
  return {{"model", model}, {"answers", std::move(answers)}, {"usage", {{"input_tokens", decided.prompt_tokens}, {"output_tokens", 0}}}};
}

}  // namespace loraine
