// Bytes as an Arrow stream, down to the JSON of its rows. See ./dev fuzz.
#include "fuzz/input_folder.h"
#include "loraine/data/arrow/arrow.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  expect_value_or_refusal([&] { read_arrow({reinterpret_cast<const char*>(data), size}, [](const std::string&) { return true; }); });
  return 0;
}
