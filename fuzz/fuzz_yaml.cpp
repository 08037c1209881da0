// Bytes as a YAML and as a JSON settings file, and as one key=value word, applied to the settings of a run. See ./dev fuzz.
#include "fuzz/input_folder.h"
#include "loraine/cli/settings/arguments.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  for (const char* name : {"input.yaml", "input.json"}) {
    std::string file = folder.write(name, data, size);
    expect_value_or_refusal([&] {
      TrainConfig config;
      apply_settings(config, read_arguments({file}));
      check_train_config(config);
    });
  }
  expect_value_or_refusal([&] {
    TrainConfig config;
    apply_settings(config, read_arguments({std::string(reinterpret_cast<const char*>(data), size)}));
  });
  return 0;
}
