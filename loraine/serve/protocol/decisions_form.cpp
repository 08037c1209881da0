// See decisions_form.h. OpenAI's decisions.
#include "loraine/serve/protocol/decisions_form.h"

#include <fmt/format.h>

#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/protocol/decision_parts.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

using Kind = DecisionKind;
constexpr size_t kLongestName = 1024;

// "name" or "name: what it means".
std::string with_description(const std::string& name, Fields& option) {
  const std::string description = option.text("description").value_or("");
  return description.empty() ? name : name + ": " + description;
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

}  // namespace loraine
