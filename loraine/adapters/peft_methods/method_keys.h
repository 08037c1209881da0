// The keys of one method, read out of adapter_config.json or out of settings: each with what it may be. Used by the methods of this room.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {

class MethodKeys {
 public:
  // where: the file, or the setting, for messages. kind: of the errors.
  MethodKeys(const nlohmann::ordered_json& json, std::string where, ErrorKind kind) : json_(json), where_(std::move(where)), kind_(kind) {}

  // Absent or null: `otherwise`, PEFT's default.
  int64_t integer(const char* key, int64_t otherwise, int64_t lowest, int64_t highest);
  double number(const char* key, double otherwise, double lowest, double highest);
  bool boolean(const char* key, bool otherwise);
  // An object of name: integer, in its order.
  std::vector<std::pair<std::string, int64_t>> counts(const char* key, int64_t lowest, int64_t highest);
  std::vector<std::string> names(const char* key, std::vector<std::string> otherwise);
  // One of `words`; a boolean is "true" or "false", where these are among them.
  std::string word(const char* key, const std::string& otherwise, const std::vector<std::string>& words);
  // A share of something that is dropped while training: from 0 to below 1.
  double share(const char* key);
  // A key that changes the maths at any other value than `built`, and is not built there.
  void only(const char* key, const nlohmann::ordered_json& built, const char* why);
  // Keys that do not change what is computed, at any value.
  void without_effect(std::initializer_list<const char*> keys);

  bool has(const char* key) const;  // there, and not null
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;
  const std::vector<std::string>& known() const { return known_; }  // all keys that were asked for

 private:
  const nlohmann::ordered_json* find(const char* key);  // nullptr where absent or null
  const nlohmann::ordered_json& json_;
  std::string where_;
  ErrorKind kind_;
  std::vector<std::string> known_;
};

// A word as PEFT writes it: true and false are booleans.
nlohmann::json word_json(const std::string& word);

}  // namespace loraine
