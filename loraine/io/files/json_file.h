// Strict reading of JSON files. Called wherever a file of a model, an adapter or a run is read.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace loraine {

using Json = nlohmann::json;

Json parse_json_file(const std::string& path);  // bad_data with file, line and column; duplicate keys refused; depth limited
nlohmann::ordered_json parse_json_file_in_order(const std::string& path);  // keys as they stand in the file

}  // namespace loraine
