// Bytes as a torch .bin file, and as the pickle inside one (which in a file is behind a checksum). See ./dev fuzz.
#include <nlohmann/json.hpp>

#include "fuzz/input_folder.h"
#include "fuzz/read_tensors.h"
#include "loraine/io/torch/torch_file.h"
#include "loraine/io/torch/torch_pickle.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  expect_value_or_refusal([&] { read_state_dict("input", data, size); });
  expect_value_or_refusal([&] {
    nlohmann::json values;
    read_nested_state("input", data, size, values);
  });
  std::string file = folder.write("input.bin", data, size);
  expect_value_or_refusal([&] { read_every_tensor(*open_torch_file(file), size); });
  return 0;
}
