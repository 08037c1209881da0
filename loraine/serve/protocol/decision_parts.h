// What the two spellings of decisions_form.h have in common.
#pragma once
#include <string>
#include <vector>

#include "loraine/serve/protocol/decisions_form.h"

namespace loraine {

inline constexpr size_t kMostQuestions = 400;

// A string, or parts that are texts or JSON; any_json: any JSON too, which is shown as it is. place is for errors. Throws ApiError.
std::string content_of(const WireJson& value, bool any_json, const std::string& place);
[[noreturn]] void bad_question(const std::string& place, const std::string& expected);
// One more answer: its value in the reply, and how the model is shown it. Throws ApiError where the value is there already.
void add_option(DecisionQuestion& question, WireJson value, const std::string& said, const std::string& place);
// Labels the options; levels that are numbers have an expected value.
void finish_question(DecisionQuestion& question);
// Σ probability · number, and Σ probability · place in the list.
double expected_number(const DecisionQuestion& question, const LabelShares& shares);
double expected_level(const std::vector<double>& probabilities);

}  // namespace loraine
