// See schema_check.h.
#include "loraine/rollouts/checks/schema_check.h"

#include <filesystem>
#include <optional>

#include "loraine/io/files/json_file.h"
#include "loraine/rollouts/checks/check_pattern.h"
#include "loraine/rollouts/checks/schema_validator.h"

namespace loraine {
namespace {

nlohmann::json schema_of(CheckFields& fields, const std::string& folder) {
  const nlohmann::ordered_json* inside = fields.value("schema");
  const std::optional<std::string> file = fields.text("schema_file");
  if (!inside && !file) throw fields.missing("schema", "{type: object, required: [answer]}");
  if (inside && file) throw Error(ErrorKind::usage, fields.place() + ": schema and schema_file are both given", "leave one of the two out");
  if (file) return parse_json_file((std::filesystem::path(folder) / *file).string());
  if (inside->is_string()) {
    nlohmann::json parsed = nlohmann::json::parse(inside->get<std::string>(), nullptr, false);
    if (parsed.is_discarded()) throw fields.wrong("schema", "a map, or its JSON text");
    return parsed;
  }
  return nlohmann::json::parse(inside->dump());
}

class SchemaCheck : public RewardCheck {
 public:
  SchemaCheck(CheckFields& fields, const std::string& folder)
      : validator_(schema_of(fields, folder), fields.place()),
        reward_(fields.number("reward", 1)),
        json_reward_(fields.number("json_reward", 0)),
        otherwise_(fields.number("otherwise", 0)) {
    if (const auto pattern = fields.text("extract")) extract_.emplace(*pattern, false, false, fields.place() + ", extract");
  }
  std::vector<double> judge(Context& /*ctx*/, std::span<const JudgedAnswer> answers) override {
    std::vector<double> rewards;
    for (const JudgedAnswer& answer : answers) {
      const std::optional<std::string> text = extract_ ? extract_->find(answer.text) : std::optional(answer.text);
      const nlohmann::json value = text ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json(nlohmann::json::value_t::discarded);
      rewards.push_back(value.is_discarded() ? otherwise_ : validator_.fits(value) ? reward_ : json_reward_);
    }
    return rewards;
  }

 private:
  SchemaValidator validator_;
  double reward_, json_reward_, otherwise_;
  std::optional<CheckPattern> extract_;
};

}  // namespace

std::unique_ptr<RewardCheck> schema_check(CheckFields& fields, const std::string& folder) {
  return std::make_unique<SchemaCheck>(fields, folder);
}

}  // namespace loraine
