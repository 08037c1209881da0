// llama.cpp's importance matrix: how large what each weight is multiplied with is, column by column. A GGUF of general.type "imatrix" with
// NAME.in_sum2 F32 [matrices, in] and NAME.counts F32 [matrices, 1] for every tensor NAME. Called by export.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace loraine {

struct ImportanceEntry {
  std::vector<float> sums;    // [matrices, in] Σ x² over rows
  std::vector<float> counts;  // [matrices] rows
};

struct ImportanceMatrix {
  std::map<std::string, ImportanceEntry> entries;  // by the name of the tensor in a GGUF
  std::vector<std::string> datasets;
  int64_t chunks = 0, chunk_size = 0;
  std::string file;  // that it was read from or written to

  // [in] of matrix `index` of a tensor: sums by counts, as llama-quantize takes them, ones where nothing was counted; empty where it has no
  // entry. Throws bad_data where the entry is of another size.
  std::vector<float> weights(const std::string& name, int64_t index, int64_t matrices, int64_t in) const;
};

ImportanceMatrix read_importance_matrix(const std::string& path);  // throws bad_data
void write_importance_matrix(const ImportanceMatrix& matrix, const std::string& path);

}  // namespace loraine
