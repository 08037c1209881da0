// Bytes as a torch .bin file, and as the pickle inside one (which in a file is behind a checksum). See ./dev fuzz.
#include <vector>

#include "fuzz/input_folder.h"
#include "loraine/io/torch_file.h"
#include "loraine/io/torch_pickle.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  expect_value_or_refusal([&] { read_state_dict("input", data, size); });
  std::string file = folder.write("input.bin", data, size);
  expect_value_or_refusal([&] {
    auto source = open_torch_file(file);
    for (const TensorInfo& info : source->tensors()) {
      int64_t count = 1;
      for (int64_t extent : info.shape) count *= extent;
      if (static_cast<size_t>(count) > size) std::abort();  // more elements than bytes: the pickle was believed
      if (info.dtype != Dtype::F32 && info.dtype != Dtype::F16 && info.dtype != Dtype::BF16) continue;
      std::vector<float> values(static_cast<size_t>(count));
      if (info.shape.size() <= 4) source->read(info, Tensor(values.data(), Dtype::F32, info.shape));
    }
  });
  return 0;
}
