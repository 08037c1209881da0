// Bytes as a safetensors file: header, tensor list, and the values of every tensor, of weights that bitsandbytes quantised too. See ./dev
// fuzz.
#include "fuzz/input_folder.h"
#include "fuzz/read_tensors.h"
#include "loraine/io/quantised/bitsandbytes_source.h"
#include "loraine/io/safetensors/safetensors.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  std::string file = folder.write("input.safetensors", data, size);
  expect_value_or_refusal([&] { read_every_tensor(*with_bitsandbytes(open_safetensors(file)), size); });
  return 0;
}
