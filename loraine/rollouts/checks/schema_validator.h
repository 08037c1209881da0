// Whether a JSON value fits a JSON Schema (2020-12): what the check json_schema asks. (loraine/grammar turns schemas into grammars instead,
// which hold an answer to one way of writing.) Called by schema_check.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "loraine/rollouts/checks/check_pattern.h"

namespace loraine {

class SchemaValidator {
 public:
  // usage naming `place` and the path for words that are not known, wrong values of words, references that lead nowhere or out of the
  // schema. Words that say nothing about values (title, description, default, examples, format, …) are ignored.
  SchemaValidator(nlohmann::json schema, const std::string& place);
  bool fits(const nlohmann::json& value) const { return fits(schema_, value, 0); }

 private:
  bool fits(const nlohmann::json& schema, const nlohmann::json& value, int depth) const;
  bool fits_number(const nlohmann::json& schema, const nlohmann::json& value) const;
  bool fits_text(const nlohmann::json& schema, const std::string& text) const;
  bool fits_list(const nlohmann::json& schema, const nlohmann::json& value, int depth) const;
  bool fits_object(const nlohmann::json& schema, const nlohmann::json& value, int depth) const;
  bool fits_combined(const nlohmann::json& schema, const nlohmann::json& value, int depth) const;
  void prepare(const nlohmann::json& schema, const std::string& path, int depth);
  const nlohmann::json& target(const std::string& reference, const std::string& path) const;
  bool matches(const std::string& pattern, const std::string& text) const { return patterns_.at(pattern).find(text).has_value(); }

  nlohmann::json schema_;
  std::string place_;
  std::map<std::string, CheckPattern> patterns_;
};

}  // namespace loraine
