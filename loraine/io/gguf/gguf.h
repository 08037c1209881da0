// The GGUF container (versions 2 and 3): checked metadata and tensor list over a mapped file, and its tensors under Hugging Face's names.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/io/files/mapped_files.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

enum class GgufType : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };

struct GgufValue {
  GgufType type = GgufType::U8;
  GgufType element = GgufType::U8;       // of an array
  uint64_t count = 0;                    // of an array
  const unsigned char* bytes = nullptr;  // the scalar, or the elements of an array of scalars
  std::string_view text;                 // String
  std::vector<std::string_view> texts;   // array of String
};

struct GgufTensor {
  std::string name;                // the file's own
  uint32_t type = 0;               // ggml type number
  std::vector<int64_t> shape;      // Hugging Face's order: outermost first
  uint64_t offset = 0, bytes = 0;  // from file.data() on
};

// A file, or the parts NAME-00001-of-00009.gguf and so on of one: path is that of the first, which has the metadata of all.
struct GgufFile {
  explicit GgufFile(const std::string& path);  // throws bad_data
  std::string path;
  MappedFiles file;
  uint32_t version = 0;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;

  const GgufValue* find(std::string_view key) const;
  // nullopt when absent; bad_data when of another type
  std::optional<uint64_t> unsigned_integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;  // an F32 gives its shortest decimal
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;  // array of integers or of booleans (0, 1); empty when absent
  std::vector<float> floats(std::string_view key) const;      // array of F32; empty when absent
};

struct GgmlType {
  uint32_t number;
  const char* name;
  int block;  // elements
  int block_bytes;
  std::optional<Dtype> weight;  // what weights of it are read as; none when they are not read
};
const GgmlType* ggml_type(uint32_t number);  // nullptr when unknown
std::unique_ptr<TensorSource> open_gguf(const std::string& path);
std::unique_ptr<TensorSource> open_gguf(std::shared_ptr<const GgufFile> file);

}  // namespace loraine
