// What a reader of a quantised format is given and what it finds: weights that a folder holds as codes with scales of groups
// (core/grouped_codes.h) or as codes of vectors (core/vector_codes.h). Each format is a function from the one to the other (formats.h).
#pragma once
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "loraine/core/grouped_codes.h"
#include "loraine/core/vector_codes.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

inline constexpr int64_t kLargestSize = INT32_MAX;  // of what a config may say

// Scales and zeros as products read them.
struct GroupTables {
  GroupedCodes groups;
  VectorCodes vectors;          // with their types of codes
  Buffer scales, zeros, books;  // empty where they lie in the file as they are
  std::vector<int32_t> column_group;
};

struct GroupedWeight {
  std::string name;                  // "model.layers.0.mlp.up_proj.weight"
  Dtype codes = Dtype::U4_GROUPS;    // their type
  int64_t rows = 0, cols = 0;        // [out, in]
  std::vector<std::string> made_of;  // tensors of the files, which are not shown
  std::string file;
  std::string stored_as;                           // "GPTQ in 4 bits": what a run's heading says
  const uint8_t* in_place = nullptr;               // the codes, where the file has them row by row; else
  std::function<void(uint8_t* codes)> take;        // writes them in that order
  std::function<void(GroupTables& tables)> group;  // called once, before the first use
};

// The bytes of a tensor: mapped, or read where they cannot be.
struct TensorBytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
  std::shared_ptr<Buffer> owned;
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data);
  }
};

// Lives as long as the weights that were found in it, which refer to it.
class QuantisedFolder {
 public:
  QuantisedFolder(std::shared_ptr<TensorSource> source, Json config, std::string file)
      : source(std::move(source)), config(std::move(config)), file(std::move(file)) {}

  const std::shared_ptr<TensorSource> source;
  const Json config;       // quantization_config
  const std::string file;  // that holds it

  // A number of the config, under one of the names; throws bad_data where none is there and there is no other.
  int64_t number(std::initializer_list<const char*> names, std::optional<int64_t> otherwise = {}) const;
  std::string text(std::initializer_list<const char*> names, const std::string& otherwise) const;  // in lower case
  [[noreturn]] void refuse(const std::string& what, const std::string& hint) const;
  [[noreturn]] void bad(const TensorInfo& info, const std::string& what) const;
  // The tensor `name` that belongs to the one at hand, stored as one of the types (safetensors' names). nullptr only where it may be
  // missing.
  const TensorInfo* beside(const TensorInfo& owner, const std::string& name, std::initializer_list<const char*> types,
                           bool may_be_missing = false) const;
  void expect_shape(const TensorInfo& info, const std::vector<int64_t>& shape) const;
  TensorBytes bytes(const TensorInfo& info) const;
  ScaleType scale_type(const TensorInfo& info) const;
};

std::string sizes_text(const std::vector<int64_t>& shape);
// The bytes of a tensor are the weight's codes: where they lie, or copied where they cannot be mapped.
void take_as_they_lie(const QuantisedFolder& folder, const TensorInfo& info, GroupedWeight& weight);
// A list of zeros, or none where they are all equal: then `groups.zero` has it.
void keep_zeros(GroupTables& tables, Buffer zeros, int64_t count);
// Scales in the order in which the file has them: where they lie, or in a copy where that is not aligned.
void keep_scales(const QuantisedFolder& folder, const TensorInfo& info, GroupTables& tables);
// [count] column groups, checked to be below `groups`. Where they are runs of equal length, that length is the groups' and no list is kept.
void keep_column_groups(const QuantisedFolder& folder, const TensorInfo& info, GroupTables& tables, std::vector<int32_t> list);

}  // namespace loraine
