// See training_record.h.
#include "loraine/io/training_record.h"

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"

namespace loraine {
namespace {

std::string file_of(const std::string& folder) { return folder + "/loraine.json"; }

std::optional<std::string> text_of(const Json& json, const char* key, const std::string& file) {
  const auto at = json.find(key);
  if (at == json.end() || at->is_null()) return {};
  if (!at->is_string()) throw Error(ErrorKind::bad_data, file + ": `" + key + "` is not a text", "train again, or remove the file");
  return at->get<std::string>();
}

}  // namespace

std::optional<TrainingRecord> read_training_record(const std::string& folder) {
  const std::string file = file_of(folder);
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(file, unreadable)) return {};
  const Json json = parse_json_file(file);
  if (!json.is_object()) throw Error(ErrorKind::bad_data, file + ": expected a JSON object", "train again, or remove the file");
  TrainingRecord record;
  record.template_name = text_of(json, "template", file);
  record.default_system = text_of(json, "default_system", file);
  record.base_fingerprint = text_of(json, "base_fingerprint", file).value_or("");
  if (const auto thinking = json.find("enable_thinking"); thinking != json.end()) {
    if (!thinking->is_boolean() && !thinking->is_null())
      throw Error(ErrorKind::bad_data, file + ": `enable_thinking` is neither true, false nor null", "train again, or remove the file");
    record.enable_thinking = thinking->is_null() ? std::optional<bool>() : thinking->get<bool>();
  }
  record.tool_format = text_of(json, "tool_format", file);
  if (const auto preserve = json.find("preserve_thinking"); preserve != json.end()) {
    if (!preserve->is_boolean())
      throw Error(ErrorKind::bad_data, file + ": `preserve_thinking` is neither true nor false", "train again, or remove the file");
    record.preserve_thinking = preserve->get<bool>();
  }
  return record;
}

void write_training_record(const TrainingRecord& record, const std::string& folder) {
  const auto value = [](const auto& given) { return given ? nlohmann::ordered_json(*given) : nlohmann::ordered_json(); };
  nlohmann::ordered_json json = {{"template", value(record.template_name)},
                                 {"default_system", value(record.default_system)},
                                 {"enable_thinking", value(record.enable_thinking)}};
  if (record.tool_format) json["tool_format"] = *record.tool_format;
  if (record.preserve_thinking) json["preserve_thinking"] = true;
  if (!record.base_fingerprint.empty()) json["base_fingerprint"] = record.base_fingerprint;
  write_file(file_of(folder), json.dump(2) + "\n");
}

}  // namespace loraine
