// Bytes as a safetensors file: header, tensor list, and the values of every tensor. See ./dev fuzz.
#include <vector>

#include "fuzz/input_folder.h"
#include "loraine/io/safetensors.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  std::string file = folder.write("input.safetensors", data, size);
  expect_value_or_refusal([&] {
    auto source = open_safetensors(file);
    for (const TensorInfo& info : source->tensors()) {
      int64_t count = 1;
      for (int64_t extent : info.shape) count *= extent;
      if (static_cast<size_t>(count) > size) std::abort();  // more elements than bytes: the header was believed
      if (source->map(info).data && count) {
        volatile char last = static_cast<const char*>(source->map(info).data)[0];
        (void)last;
      }
      if (info.dtype != Dtype::F32 && info.dtype != Dtype::F16 && info.dtype != Dtype::BF16) continue;
      std::vector<float> values(static_cast<size_t>(count));
      source->read(info, Tensor(values.data(), Dtype::F32, info.shape));
    }
  });
  return 0;
}
