// What an answer is worth: the interface of all checks, and the file that names them. open_checks lists the kinds. Called by
// engine_rollouts.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/data/dataset.h"
#include "loraine/train/config/config.h"

namespace loraine {

struct JudgedAnswer {
  const AskedExample* asked;     // the question, and the row's own answer as reference
  std::string text;              // of the answer, without special tokens
  std::span<const int32_t> ids;  // its end among them
};

class RewardCheck {
 public:
  virtual ~RewardCheck() = default;
  // A number for each answer; NaN: the check has nothing to say of it. The same answers get the same numbers.
  virtual std::vector<double> judge(Context& ctx, std::span<const JudgedAnswer> answers) = 0;
  virtual size_t bytes(int64_t /*rows*/) const { return 0; }  // beside what it holds already, for prompts with answers of so many tokens
};

struct NamedCheck {
  std::string name;
  double weight = 1;
  std::unique_ptr<RewardCheck> check;
};

// The checks of a YAML or JSON file: a list of {name, type, weight, …}. usage for what is no such list, an unknown type or key, a wrong
// value, two checks of a name. Models that checks need are opened.
std::vector<NamedCheck> open_checks(const std::string& file, const TrainConfig& config);

}  // namespace loraine
