// The GGUF writer (version 3): keys in their order, then tensors one at a time. Called by export.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loraine/io/gguf/gguf.h"

namespace loraine {

// Keys of a file in the making, as bytes; a second value for a key takes the first one's place.
class GgufMetadata {
 public:
  void put_unsigned(const std::string& key, uint64_t value);  // U32; throws bad_data beyond it
  void put_short(const std::string& key, uint16_t value);     // U16
  void put_signed(const std::string& key, int32_t value);     // I32
  void put_number(const std::string& key, double value);      // F32
  void put_boolean(const std::string& key, bool value);
  void put_text(const std::string& key, std::string_view value);
  void put_texts(const std::string& key, const std::vector<std::string>& values);
  void put_integers(const std::string& key, const std::vector<int32_t>& values);  // I32
  void put_numbers(const std::string& key, const std::vector<float>& values);     // F32
  void put_booleans(const std::string& key, const std::vector<bool>& values);
  bool has(std::string_view key) const;
  // Type and value of each, as they stand in the file.
  const std::vector<std::pair<std::string, std::string>>& keys() const { return keys_; }

 private:
  void put(const std::string& key, std::string bytes);
  std::vector<std::pair<std::string, std::string>> keys_;
};

struct GgufEntry {
  std::string name;
  uint32_t type = 0;           // ggml's number
  std::vector<int64_t> shape;  // outermost first
};
// Bytes of a tensor; throws internal for a shape that its type cannot have.
uint64_t bytes_of(const GgufEntry& entry);

using WriteGgufBytes = std::function<void(const void* data, size_t bytes)>;

// Calls `produce(index, write)` once per entry, in order; it must write exactly the bytes of entries[index]. The file appears when it is
// complete.
void stream_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufEntry>& entries,
                 const std::function<void(size_t index, const WriteGgufBytes& write)>& produce);

// The same in as many files as it takes for none to have more bytes of tensors than part_bytes (but for one tensor alone), named and keyed
// as llama-gguf-split does it: path, NAME.gguf, becomes NAME-00001-of-00009.gguf and so on, of which the first has the metadata. Gives the
// paths; path itself where one is enough.
std::vector<std::string> stream_gguf_parts(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufEntry>& entries,
                                           uint64_t part_bytes,
                                           const std::function<void(size_t index, const WriteGgufBytes& write)>& produce);

}  // namespace loraine
