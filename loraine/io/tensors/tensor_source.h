// Where weights come from: a safetensors file, a sharded folder, a GGUF file. Called by model/load, export and adapters.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/core/tensor.h"

namespace loraine {

struct TensorInfo {
  std::string name;                  // Hugging Face's name, also for a GGUF
  Dtype dtype = Dtype::F32;          // what read() and map() give; F32 for packed types
  std::vector<int64_t> shape;        // Hugging Face's order ([out, in])
  std::string stored_as;             // "BF16", "Q4_1", …
  std::string file;                  // for messages
  std::optional<Dtype> packed = {};  // the packed type it is stored in, if it is
};

// Rows [E, n, in] of a stack of matrices: row i of each gives output first + i · step.
struct StackPiece {
  Tensor rows;
  int64_t first = 0, step = 1;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::vector<TensorInfo>& tensors() const = 0;  // sorted by name
  const TensorInfo* find(std::string_view name) const;         // nullptr when absent
  // View of the mapped bytes, valid while the source lives; data is nullptr when the stored form is not a plain row-major tensor.
  virtual Tensor map(const TensorInfo& info) const = 0;
  // The same for the blocks of a packed tensor; of a file's own source also for elements of 8 bits that no Dtype stands for, as U8.
  virtual Tensor map_packed(const TensorInfo&) const { return {}; }
  // Copies into `out` (same element count; F32, F16, BF16 or info.packed), converting and dequantising.
  virtual void read(const TensorInfo& info, const Tensor& out) const = 0;
  // Of a stack [E, out, in] that the file holds in pieces, or [E, in, out] that it holds the other way: all of it, as it lies there. Empty
  // of any other tensor.
  virtual std::vector<StackPiece> map_pieces(const TensorInfo&) const { return {}; }
  // A packed tensor whose codes the file holds in another order than products read them: in memory of the caller, while what they mean
  // stays with the source. data is nullptr of any other tensor.
  virtual Tensor take_packed(const TensorInfo&, Buffer&) const { return {}; }
};

}  // namespace loraine
