// Checked values of config.json; errors name file and key.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace loraine {

class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& hf, std::string file) : hf_(hf), file_(std::move(file)) {}
  int64_t positive(const char* key) const;                        // required, 1 … 2^31
  int64_t positive_or(const char* key, int64_t otherwise) const;  // absent gives `otherwise`; null is a wrong value, as to transformers
  double number_or(const char* key, double otherwise) const;
  bool flag_or(const char* key, bool otherwise) const;
  std::string text_or(const char* key, const std::string& otherwise) const;         // null counts as absent
  std::vector<double> numbers(const char* key) const;                               // required, a list of numbers
  const nlohmann::json* get(const char* key) const;                                 // nullptr when absent or null
  const nlohmann::json* given(const char* key, const std::string& expected) const;  // nullptr when absent; null is wrong
  bool given_as_null(const char* key) const { return hf_.contains(key) && hf_[key].is_null(); }
  ConfigReader inside(const char* key) const;  // of an object; empty when absent or null
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;
  const std::string& file() const { return file_; }
  const nlohmann::json& keys() const { return hf_; }

 private:
  const nlohmann::json& hf_;
  std::string file_;
};

}  // namespace loraine
