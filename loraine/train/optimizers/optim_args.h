// The settings in `optim_args`: a comma list of key=value, as transformers takes it. Used by the recipes.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>

#include "loraine/core/describe.h"

namespace loraine {

// Each getter throws usage for a value that is not one. What nothing has asked for is refused by finish().
class OptimArgs {
 public:
  OptimArgs(const std::string& optim, const std::optional<std::string>& text);
  double number(const std::string& key, double otherwise, const Limits& limits = {});
  int64_t whole(const std::string& key, int64_t otherwise, const Limits& limits);
  bool yes(const std::string& key, bool otherwise);
  std::string word(const std::string& key, const std::string& otherwise, const std::vector<std::string>& choices);
  bool has(const std::string& key) const { return values_.contains(key); }
  // transformers overrides this one, or the run knows only this value of it: any other is refused with `hint`.
  void only(const std::string& key, const std::string& value, const std::string& hint);
  void finish() const;  // usage for keys that this optimizer does not know

 private:
  const std::string* find(const std::string& key);

  std::string optim_;
  std::map<std::string, std::string> values_;
  std::set<std::string> known_;
};

}  // namespace loraine
