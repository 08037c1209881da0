// See decision_parts.h.
#include "loraine/serve/protocol/decision_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loraine/serve/protocol/fields.h"

namespace loraine {
namespace {

bool is_text_part(const WireJson& part) {
  if (!part.is_object() || !part.contains("type") || !part.contains("text") || !part["text"].is_string()) return false;
  const WireJson& type = part["type"];
  return type == "input_text" || type == "output_text" || type == "text";
}

bool is_json_part(const WireJson& part) {
  return part.is_object() && part.contains("type") && part["type"] == "input_json" && part.contains("data") && part["data"].is_structured();
}

}  // namespace

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

void bad_question(const std::string& place, const std::string& expected) {
  throw ApiError{400, fmt::format("{} does not fit, expected was {}", place, expected), place};
}

void add_option(DecisionQuestion& question, WireJson value, const std::string& said, const std::string& place) {
  if (std::ranges::find(question.values, value) != question.values.end()) bad_question(place, "options that differ");
  question.values.push_back(std::move(value));
  question.shown.push_back(said);
}

void finish_question(DecisionQuestion& question) {
  label_choices(question);
  if (question.kind != DecisionKind::score) return;
  for (const WireJson& level : question.values) {
    const std::string text = level.get<std::string>();
    char* end = nullptr;
    question.numbers.push_back(std::strtod(text.c_str(), &end));
    if (text.empty() || *end || !std::isfinite(question.numbers.back())) return question.numbers.clear();
  }
}

WireJson messages_with(const AskedDecisions& asked, const DecisionQuestion& question) {
  const std::string text = decision_text(question);
  WireJson messages = asked.messages;
  WireJson& last = messages.back();
  if (last["role"] == "user") last["content"] = last["content"].get<std::string>() + "\n\n" + text;
  else messages.push_back({{"role", "user"}, {"content", text}});
  return messages;
}

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

}  // namespace loraine
