// See decision_fields.h.
#include "loraine/data/rows/decision_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"

namespace loraine {
namespace {

namespace dom = simdjson::dom;

[[noreturn]] void bad_decision(const std::string& field, const std::string& found) {
  throw Error(ErrorKind::bad_data, fmt::format("field `{}`: {}", field, found));
}

std::string in_words(dom::element value) {
  std::string text = simdjson::minify(value);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

// yes: 0, no: 1; anything else: none.
std::optional<int32_t> yes_or_no(const std::string& text) {
  const std::string small = lower_case(text);
  if (small == "yes" || small == "true") return 0;
  if (small == "no" || small == "false") return 1;
  return {};
}

std::optional<double> number_in(dom::element value) {
  double number = 0;
  if (value.is_number() && !value.get(number) && std::isfinite(number)) return number;
  std::string_view text;
  if (value.get(text) || text.empty()) return {};
  const std::string copy(text);
  char* end = nullptr;
  number = std::strtod(copy.c_str(), &end);
  return *end == 0 && std::isfinite(number) ? std::optional(number) : std::nullopt;
}

void take_numbers(DecisionRow& row, std::vector<double> numbers) {
  row.kind = DecisionKind::score;
  for (const double number : numbers) row.names.push_back(fmt::format("{}", number == 0 ? 0.0 : number));
  row.numbers = std::move(numbers);
}

void check_choice_count(const std::string& field, size_t count) {
  if (count < 2 || count > kMostChoices) bad_decision(field, fmt::format("{} choices, and 2 to {} are expected", count, kMostChoices));
}

void read_range(DecisionRow& row, dom::object object, const std::string& field) {
  const auto number = [&](const char* key, std::optional<double> otherwise) {
    dom::element value;
    if (object.at_key(key).get(value)) {
      if (!otherwise) bad_decision(field, fmt::format("a range without `{}`: {{\"from\": 1, \"to\": 5}} is expected", key));
      return *otherwise;
    }
    double found = 0;
    if (value.get(found) || !std::isfinite(found)) bad_decision(field + "." + key, in_words(value) + " where a number is expected");
    return found;
  };
  const double from = number("from", {}), to = number("to", {}), step = number("step", 1);
  const double count = step > 0 ? (to - from) / step + 1 : 0;
  if (!(count >= 2) || count > static_cast<double>(kMostChoices) + 0.5 || std::abs(count - std::round(count)) > 1e-6)
    bad_decision(field, fmt::format("from {} to {} by {}: 2 to {} numbers at equal distances are expected", from, to, step, kMostChoices));
  std::vector<double> numbers;
  for (int i = 0; i < static_cast<int>(std::round(count)); ++i) numbers.push_back(from + i * step);
  take_numbers(row, std::move(numbers));
}

// Texts, which may be yes and no; `given`: as they stand, for a label that is a place.
void read_texts(DecisionRow& row, dom::array list, const std::string& field, std::vector<std::string>& given) {
  for (const dom::element one : list) {
    std::string_view text;
    if (one.get(text))
      bad_decision(field, fmt::format("{} beside texts: choices are all texts, all numbers, or true and false", in_words(one)));
    if (text.empty() || text.find('\0') != std::string_view::npos) bad_decision(field, "a choice that is empty, or no text");
    if (std::ranges::find(given, text) != given.end()) bad_decision(field, fmt::format("the choice {} stands twice", in_words(one)));
    given.emplace_back(text);
  }
  const bool both = given.size() == 2 && yes_or_no(given[0]) && yes_or_no(given[1]) && *yes_or_no(given[0]) != *yes_or_no(given[1]);
  row.kind = both ? DecisionKind::yes_no : DecisionKind::choice;
  row.names = both ? std::vector<std::string>{"yes", "no"} : given;
}

void read_numbers(DecisionRow& row, dom::array list, const std::string& field) {
  std::vector<double> numbers;
  for (const dom::element one : list) {
    double number = 0;
    if (!one.is_number() || one.get(number) || !std::isfinite(number))
      bad_decision(field, fmt::format("{} beside numbers: choices are all texts, all numbers, or true and false", in_words(one)));
    if (!numbers.empty() && number <= numbers.back())
      bad_decision(field, fmt::format("{} behind {}: numbers stand in their order, the lowest first", number, numbers.back()));
    numbers.push_back(number);
  }
  take_numbers(row, std::move(numbers));
}

void read_list(DecisionRow& row, dom::array list, const std::string& field, std::vector<std::string>& given) {
  check_choice_count(field, list.size());
  const dom::element first = list.at(0).value();
  if (first.is_number()) return read_numbers(row, list, field);
  if (!first.is_bool()) return read_texts(row, list, field, given);
  bool one = false, other = false;
  if (list.size() != 2 || list.at(0).get(one) || list.at(1).get(other) || one == other)
    bad_decision(field, "true or false beside something else: [true, false] is expected");
  row.kind = DecisionKind::yes_no;
  row.names = {"yes", "no"};
}

int32_t read_label(const DecisionRow& row, dom::element value, const std::string& field, const std::vector<std::string>& given) {
  bool truth = false;
  int64_t place = 0;
  std::string_view text;
  const bool is_text = !value.get(text);
  if (row.kind == DecisionKind::score) {
    const std::optional<double> number = number_in(value);
    for (size_t i = 0; number && i < row.numbers.size(); ++i)
      if (std::abs(row.numbers[i] - *number) <= 1e-9 * std::max(1.0, std::abs(*number))) return static_cast<int32_t>(i);
  } else if (row.kind == DecisionKind::yes_no && !value.get(truth)) {
    return truth ? 0 : 1;
  } else if (row.kind == DecisionKind::yes_no && is_text && yes_or_no(std::string(text))) {
    return *yes_or_no(std::string(text));
  } else if (is_text) {
    const auto found = std::ranges::find(row.names, text);
    if (found != row.names.end()) return static_cast<int32_t>(found - row.names.begin());
  } else if (value.is_int64() && !value.get(place) && place >= 0 && place < static_cast<int64_t>(given.size())) {
    const std::string& name = given[static_cast<size_t>(place)];
    return row.kind == DecisionKind::yes_no ? *yes_or_no(name) : static_cast<int32_t>(place);
  }
  std::vector<std::string> some(row.names.begin(), row.names.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(row.names.size(), 6)));
  bad_decision(field, fmt::format("{} is none of the {} choices: {}{}", in_words(value), row.names.size(), fmt::join(some, ", "),
                                  row.names.size() > some.size() ? ", …" : ""));
}

}  // namespace

DecisionRow read_decision(const DatasetInfo& info, dom::object object) {
  const auto& columns = info.columns;
  DecisionRow row;
  dom::element label, choices, question;
  if (object.at_key(columns.label).get(label) || label.is_null())
    bad_decision(columns.label, "absent: stage decision learns which of the choices is right");
  std::vector<std::string> given;
  dom::array list;
  dom::object range;
  if (object.at_key(columns.choices).get(choices) || choices.is_null()) {
    if (!label.is_bool())
      bad_decision(columns.choices, "absent: a list of what may be answered is expected, or a label that is true or false");
    row.kind = DecisionKind::yes_no;
    row.names = {"yes", "no"};
  } else if (!choices.get(list)) {
    read_list(row, list, columns.choices, given);
  } else if (!choices.get(range)) {
    read_range(row, range, columns.choices);
  } else {
    bad_decision(columns.choices, fmt::format("{} where a list, or a range {{\"from\": 1, \"to\": 5}}, is expected", in_words(choices)));
  }
  row.label = read_label(row, label, columns.label, given);
  if (!columns.question.empty() && !object.at_key(columns.question).get(question) && !question.is_null()) {
    std::string_view text;
    if (question.get(text) || text.find('\0') != std::string_view::npos)
      bad_decision(columns.question, in_words(question) + " where a text is expected");
    row.question = std::string(text);
  }
  return row;
}

}  // namespace loraine
