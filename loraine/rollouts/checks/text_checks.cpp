// One number for each answer by itself.
#include "loraine/rollouts/checks/text_checks.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "loraine/core/lower_case.h"
#include "loraine/rollouts/checks/check_pattern.h"

namespace loraine {
namespace {

constexpr double kNothingToSay = std::numeric_limits<double>::quiet_NaN();

class RegexCheck : public RewardCheck {
 public:
  explicit RegexCheck(CheckFields& fields)
      : pattern_(fields.needed_text("pattern", "'<answer>.*</answer>'"), fields.yes("ignore_case", false),
                 fields.choice("match", {"search", "full"}) == "full", fields.place()),
        reward_(fields.number("reward", 1)),
        otherwise_(fields.number("otherwise", 0)) {}
  std::vector<double> judge(Context& /*ctx*/, std::span<const JudgedAnswer> answers) override {
    std::vector<double> rewards;
    for (const JudgedAnswer& answer : answers) rewards.push_back(pattern_.find(answer.text) ? reward_ : otherwise_);
    return rewards;
  }

 private:
  CheckPattern pattern_;
  double reward_, otherwise_;
};

std::string trimmed_text(const std::string& text) {
  const char* blanks = " \t\r\n";
  const size_t first = text.find_first_not_of(blanks);
  return first == std::string::npos ? std::string() : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// "$1,234.50" → 1234.5; nothing for what is no number.
std::optional<double> number_in_text(const std::string& text) {
  std::string digits;
  for (const char c : text)
    if (c != ',' && c != '$' && c != ' ' && c != '%') digits += c;
  if (digits.starts_with('+')) digits.erase(0, 1);
  if (digits.ends_with('.')) digits.pop_back();
  double number = 0;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || failed != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

class ExactCheck : public RewardCheck {
 public:
  explicit ExactCheck(CheckFields& fields)
      : expected_(fields.text("expected")),
        ignore_case_(fields.yes("ignore_case", false)),
        as_number_(fields.yes("as_number", false)),
        last_(fields.choice("take", {"first", "last"}) == "last"),
        reward_(fields.number("reward", 1)),
        otherwise_(fields.number("otherwise", 0)) {
    if (const auto pattern = fields.text("extract")) extract_.emplace(*pattern, ignore_case_, false, fields.place() + ", extract");
    if (const auto pattern = fields.text("extract_reference"))
      extract_reference_.emplace(*pattern, ignore_case_, false, fields.place() + ", extract_reference");
  }
  std::vector<double> judge(Context& /*ctx*/, std::span<const JudgedAnswer> answers) override {
    std::vector<double> rewards;
    for (const JudgedAnswer& answer : answers) {
      std::optional<std::string> wanted = expected_ ? expected_ : answer.asked->reference;
      if (wanted && !expected_ && extract_reference_) wanted = taken_from(*extract_reference_, *wanted);
      if (!wanted) {
        rewards.push_back(kNothingToSay);
        continue;
      }
      const std::optional<std::string> given = extract_ ? taken_from(*extract_, answer.text) : std::optional(answer.text);
      rewards.push_back(given && same(*given, *wanted) ? reward_ : otherwise_);
    }
    return rewards;
  }

 private:
  std::optional<std::string> taken_from(const CheckPattern& pattern, const std::string& text) const {
    return last_ ? pattern.find_last(text) : pattern.find(text);
  }
  bool same(const std::string& given, const std::string& wanted) const {
    std::string a = trimmed_text(given), b = trimmed_text(wanted);
    if (as_number_) {
      const auto x = number_in_text(a), y = number_in_text(b);
      if (x && y) return *x == *y;
    }
    return ignore_case_ ? lower_case(a) == lower_case(b) : a == b;
  }
  std::optional<std::string> expected_;
  bool ignore_case_, as_number_, last_;
  double reward_, otherwise_;
  std::optional<CheckPattern> extract_, extract_reference_;
};

// 1 from min to max; outside it falls to 0 over `margin`, in a straight line.
class LengthCheck : public RewardCheck {
 public:
  explicit LengthCheck(CheckFields& fields)
      : unit_(fields.choice("unit", {"tokens", "characters", "words"})),
        min_(fields.number("min", 0)),
        max_(fields.number("max", std::numeric_limits<double>::infinity())),
        margin_(fields.number("margin", 0)) {
    if (!fields.value("min") && !fields.value("max")) throw fields.missing("max", "200");
    if (min_ > max_) throw fields.wrong("min", "a number that is not above max");
    if (margin_ < 0) throw fields.wrong("margin", "a number of 0 or more");
  }
  std::vector<double> judge(Context& /*ctx*/, std::span<const JudgedAnswer> answers) override {
    std::vector<double> rewards;
    for (const JudgedAnswer& answer : answers) {
      const double length = length_of(answer), off = std::max({min_ - length, length - max_, 0.0});
      rewards.push_back(off == 0 ? 1 : margin_ > 0 ? std::max(0.0, 1 - off / margin_) : 0);
    }
    return rewards;
  }

 private:
  double length_of(const JudgedAnswer& answer) const {
    if (unit_ == "tokens") return static_cast<double>(answer.ids.size());
    if (unit_ == "characters")
      return static_cast<double>(std::ranges::count_if(answer.text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
    int64_t words = 0;
    bool inside = false;
    for (const char c : answer.text) {
      const bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
      words += !blank && !inside ? 1 : 0;
      inside = !blank;
    }
    return static_cast<double>(words);
  }
  std::string unit_;
  double min_, max_, margin_;
};

}  // namespace

std::unique_ptr<RewardCheck> regex_check(CheckFields& fields) { return std::make_unique<RegexCheck>(fields); }
std::unique_ptr<RewardCheck> exact_check(CheckFields& fields) { return std::make_unique<ExactCheck>(fields); }
std::unique_ptr<RewardCheck> length_check(CheckFields& fields) { return std::make_unique<LengthCheck>(fields); }

}  // namespace loraine
