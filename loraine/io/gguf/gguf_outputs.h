// The table of architectures read backwards: which tensors a GGUF has for those of a model at Hugging Face, and how their rows lie.
// Called by export.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/io/gguf/gguf_architecture.h"

namespace loraine {

struct NamedShape {
  std::string name;  // at Hugging Face, as the table has it
  std::vector<int64_t> shape;
};

struct GgufHeads {
  int64_t heads = 0, kv_heads = 0;
};

// One tensor of the file.
struct GgufOutput {
  std::string name;
  std::vector<int64_t> shape;        // outermost first
  std::vector<std::string> sources;  // at Hugging Face; several: the matrices of a stack
  int64_t first_row = 0;             // of each matrix of a source, from which on its rows are taken
  std::vector<int64_t> order;        // row i of the source is row order[i] of the file; empty: i
  bool plus_one = false;             // 1 is added
};

// In the file's order: what is outside layers, then layer by layer. Throws unsupported naming the first tensor that has no place there, or
// lies in a form that is not written.
std::vector<GgufOutput> gguf_outputs(const GgufArchitecture& architecture, const std::vector<NamedShape>& tensors, GgufHeads heads,
                                     int64_t layers);

// Where the rows of heads are stored when those of a head lie 0, d/2, 1, d/2 + 1, …: row (half, i) of a head at 2 i + half. Rows are
// appended, `first` being the first one's.
void order_pairs(std::vector<int64_t>& order, int64_t first, int64_t rows, int64_t heads);
// Where rows q, k, v of each head in turn are stored: those of q, of k and of v of all heads.
void order_by_head(std::vector<int64_t>& order, int64_t rows, int64_t heads);

}  // namespace loraine
