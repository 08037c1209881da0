// The fields of one check in its file, read by name and type; what is left over is refused. Called by open_checks and by each kind of
// check.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {

class CheckFields {
 public:
  // place: "checks.yaml, check 2 (format)", for messages.
  CheckFields(const nlohmann::ordered_json& fields, std::string place) : fields_(fields), place_(std::move(place)) {}

  std::optional<std::string> text(const char* key);
  std::string needed_text(const char* key, const char* example);
  std::optional<double> number(const char* key);
  double number(const char* key, double otherwise) { return number(key).value_or(otherwise); }
  bool yes(const char* key, bool otherwise);
  std::string choice(const char* key, const std::vector<std::string>& of);  // the first where it is not given
  const nlohmann::ordered_json* value(const char* key);                     // of any type; nullptr where it is not given
  void end() const;                                                         // usage where a field is none of those that were asked for

  const std::string& place() const { return place_; }
  Error wrong(const std::string& key, const std::string& expected) const;
  Error missing(const std::string& key, const std::string& example) const;

 private:
  const nlohmann::ordered_json& fields_;
  std::string place_;
  std::set<std::string> asked_;
};

}  // namespace loraine
