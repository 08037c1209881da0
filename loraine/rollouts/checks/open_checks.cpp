// A file to checks. To add a kind: its pair of files, and a line in kKinds.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "loraine/core/describe.h"
#include "loraine/rollouts/checks/check.h"
#include "loraine/rollouts/checks/command_check.h"
#include "loraine/rollouts/checks/reward_model_check.h"
#include "loraine/rollouts/checks/schema_check.h"
#include "loraine/rollouts/checks/text_checks.h"
#include "loraine/rollouts/checks/yaml_json.h"

namespace loraine {
namespace {

struct CheckContext {
  const TrainConfig& config;
  std::string folder;  // of the file of checks
};
struct CheckKind {
  const char* type;
  std::unique_ptr<RewardCheck> (*open)(CheckFields& fields, const CheckContext& context);
};

constexpr CheckKind kKinds[] = {
    {"regex", [](CheckFields& fields, const CheckContext&) { return regex_check(fields); }},
    {"exact", [](CheckFields& fields, const CheckContext&) { return exact_check(fields); }},
    {"json_schema", [](CheckFields& fields, const CheckContext& context) { return schema_check(fields, context.folder); }},
    {"length", [](CheckFields& fields, const CheckContext&) { return length_check(fields); }},
    {"reward_model", [](CheckFields& fields, const CheckContext& context) { return reward_model_check(fields, context.config); }},
    {"command", [](CheckFields& fields, const CheckContext&) { return command_check(fields); }},
};

std::vector<std::string> type_names() {
  std::vector<std::string> names;
  for (const CheckKind& kind : kKinds) names.emplace_back(kind.type);
  return names;
}

NamedCheck open_check(const nlohmann::ordered_json& entry, const std::string& where, const CheckContext& context) {
  const std::vector<std::string> types = type_names();
  const std::string all = fmt::format("{}", fmt::join(types, ", "));
  if (!entry.is_object()) throw Error(ErrorKind::usage, where + " is no map", "write a list of maps: - {type: regex, pattern: …}");
  CheckFields first(entry, where);
  const std::string type = first.needed_text("type", all.c_str());
  const auto* const kind = std::ranges::find_if(kKinds, [&](const CheckKind& one) { return one.type == type; });
  if (kind == std::end(kKinds)) {
    const std::string near = nearest_word(type, types);
    throw Error(ErrorKind::usage, fmt::format("{}: there is no type '{}'", where, type),
                (near.empty() ? "" : "did you mean '" + near + "'? ") + "there are: " + all);
  }
  NamedCheck made;
  made.name = first.text("name").value_or(type);
  if (made.name.empty()) throw first.wrong("name", "a name");
  CheckFields fields(entry, fmt::format("{} ({})", where, made.name));
  for (const char* key : {"type", "name"}) fields.value(key);
  made.weight = fields.number("weight", 1);
  if (!std::isfinite(made.weight)) throw fields.wrong("weight", "a number");
  made.check = kind->open(fields, context);
  fields.end();
  return made;
}

}  // namespace

std::vector<NamedCheck> open_checks(const std::string& file, const TrainConfig& config) {
  const nlohmann::ordered_json list = parse_yaml_file(file);
  if (!list.is_array() || list.empty())
    throw Error(
        ErrorKind::usage,
        fmt::format("reward_checks {}: {}, expected a list of checks", file, list.is_array() ? "the list is empty" : "it holds no list"),
        "write: - {name: format, type: regex, pattern: '<answer>.*</answer>'}");
  const CheckContext context{config, std::filesystem::path(file).parent_path().string()};
  std::vector<NamedCheck> checks;
  for (size_t i = 0; i < list.size(); ++i) {
    NamedCheck one = open_check(list[i], fmt::format("{}, check {}", file, i + 1), context);
    if (std::ranges::find(checks, one.name, &NamedCheck::name) != checks.end())
      throw Error(ErrorKind::usage, fmt::format("{}, check {}: there is a check named '{}' already", file, i + 1, one.name),
                  "give each a name of its own");
    checks.push_back(std::move(one));
  }
  return checks;
}

}  // namespace loraine
