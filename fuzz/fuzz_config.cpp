// Bytes as config.json of a model: JSON reader and the families. See ./dev fuzz.
#include <nlohmann/json.hpp>

#include "fuzz/input_folder.h"
#include "loraine/io/model_files.h"
#include "loraine/model/config.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  std::string file = folder.write("config.json", data, size);
  expect_value_or_refusal([&] { model_config(parse_json_file(file), file); });
  return 0;
}
