// Bytes as a GGUF file: metadata, tensors, and the Hugging Face model made of them. See ./dev fuzz.
#include <vector>

#include "fuzz/input_folder.h"
#include "loraine/io/gguf/gguf_config.h"
#include "loraine/io/gguf_model.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  std::string file = folder.write("input.gguf", data, size);
  expect_value_or_refusal([&] { GgufFile gguf(file); });
  expect_value_or_refusal([&] { gguf_tokenizer_json(GgufFile(file)); });
  expect_value_or_refusal([&] { gguf_tokenizer_config(GgufFile(file)); });
  expect_value_or_refusal([&] {
    ModelFiles model = open_gguf_model(file);
    for (const TensorInfo& info : model.tensors->tensors()) {
      int64_t count = 1;
      for (int64_t extent : info.shape) count *= extent;
      if (static_cast<size_t>(count) > 32 * size)
        std::abort();  // Q4_0 holds two elements in a byte; more than 32 means a header was believed
      std::vector<float> values(static_cast<size_t>(count));
      model.tensors->read(info, Tensor(values.data(), Dtype::F32, info.shape));
    }
  });
  return 0;
}
