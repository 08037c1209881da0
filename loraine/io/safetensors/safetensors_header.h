// Reads and checks the header of a safetensors file; every rule of the reference implementation. Called by open_safetensors.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

struct SafetensorsTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // in the data behind the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsTensor> tensors;  // sorted by name
  std::map<std::string, std::string> metadata;
  uint64_t data_start = 0;  // offset of the data in the file
};

// bits of one element of a safetensors type; 0 when the type is unknown
int safetensors_bits(std::string_view dtype);

// file: for messages; bytes, size: the whole file. Throws bad_data.
SafetensorsHeader parse_safetensors_header(const std::string& file, const unsigned char* bytes, uint64_t size);

}  // namespace loraine
