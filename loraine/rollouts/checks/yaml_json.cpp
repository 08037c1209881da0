// See yaml_json.h.
#include "loraine/rollouts/checks/yaml_json.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

using CheckJson = nlohmann::ordered_json;

CheckJson scalar_json(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted, or a block
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  CheckJson number = CheckJson::parse(text, nullptr, false);
  return number.is_number() ? number : CheckJson(text);
}

CheckJson node_json(const YAML::Node& node, const std::string& path, int depth) {
  const auto bad = [&](const std::string& what) -> Error {
    return {ErrorKind::usage, fmt::format("{}:{}: {}", path, node.Mark().line + 1, what)};
  };
  if (depth > 64) throw bad("nested deeper than 64 levels");
  if (node.IsScalar()) return scalar_json(node);
  if (node.IsSequence()) {
    CheckJson list = CheckJson::array();
    for (const YAML::Node& item : node) list.push_back(node_json(item, path, depth + 1));
    return list;
  }
  if (!node.IsMap()) return nullptr;
  CheckJson map = CheckJson::object();
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) throw bad("a key that is no text");
    const std::string& key = entry.first.Scalar();
    if (map.contains(key)) throw bad("the key '" + key + "' stands twice");
    map[key] = node_json(entry.second, path, depth + 1);
  }
  return map;
}

}  // namespace

nlohmann::ordered_json parse_yaml_file(const std::string& path) {
  const std::string text = read_file(path, 1 << 24);
  try {
    return node_json(YAML::Load(text), path, 0);
  } catch (const YAML::Exception& e) {
    throw Error(ErrorKind::usage, fmt::format("{}:{}: {}", path, e.mark.line + 1, e.msg), "write YAML or JSON");
  }
}

}  // namespace loraine
