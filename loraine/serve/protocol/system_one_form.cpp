// See decisions_form.h. TypeSafe's System One.
#include <fmt/format.h>

#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/protocol/decision_parts.h"
#include "loraine/serve/protocol/decisions_form.h"

namespace loraine {
namespace {

using Kind = DecisionKind;

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

}  // namespace

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
