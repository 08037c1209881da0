// See importance_matrix.h. Facts: llama.cpp's tools/imatrix.
#include "loraine/io/gguf/importance_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf/gguf_write.h"

namespace loraine {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr uint32_t kGgmlF32 = 0;

[[noreturn]] void bad_importance(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::bad_data, path + ": " + what, "is it a GGUF that llama-imatrix or loraine export wrote?");
}

std::vector<float> floats_of(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != kGgmlF32) bad_importance(file.path, "tensor " + in_quotes(tensor.name) + " is not F32");
  std::vector<float> values(tensor.bytes / sizeof(float));
  std::memcpy(values.data(), file.file.data() + tensor.offset, tensor.bytes);
  if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v) && v >= 0; }))
    bad_importance(file.path, "tensor " + in_quotes(tensor.name) + " holds what no sum of squares is");
  return values;
}

}  // namespace

std::vector<float> ImportanceMatrix::weights(const std::string& name, int64_t index, int64_t matrices, int64_t in) const {
  const auto found = entries.find(name);
  if (found == entries.end()) return {};
  const ImportanceEntry& entry = found->second;
  const auto counted = static_cast<int64_t>(entry.counts.size());
  if (static_cast<int64_t>(entry.sums.size()) != matrices * in || (counted != matrices && counted != 1))
    bad_importance(file, fmt::format("the importance of {} has {} numbers for {} matrices, and the model has {} of {} columns", name,
                                     entry.sums.size(), counted, matrices, in));
  const float count = entry.counts[counted == 1 ? 0 : static_cast<size_t>(index)];
  std::vector<float> weights(static_cast<size_t>(in), 1.0f);
  if (count > 0)
    for (int64_t i = 0; i < in; ++i) weights[static_cast<size_t>(i)] = entry.sums[static_cast<size_t>(index * in + i)] / count;
  return weights;
}

ImportanceMatrix read_importance_matrix(const std::string& path) {
  const GgufFile file(path);
  if (file.text("general.type").value_or("") != "imatrix")
    bad_importance(path, "general.type is " + in_quotes(file.text("general.type").value_or("")) + ", expected imatrix");
  ImportanceMatrix matrix;
  matrix.file = path;
  matrix.chunks = static_cast<int64_t>(file.unsigned_integer("imatrix.chunk_count").value_or(0));
  matrix.chunk_size = static_cast<int64_t>(file.unsigned_integer("imatrix.chunk_size").value_or(0));
  if (const GgufValue* datasets = file.find("imatrix.datasets")) matrix.datasets.assign(datasets->texts.begin(), datasets->texts.end());
  for (const GgufTensor& tensor : file.tensors) {
    if (tensor.name.ends_with(kSums))
      matrix.entries[tensor.name.substr(0, tensor.name.size() - kSums.size())].sums = floats_of(file, tensor);
    else if (tensor.name.ends_with(kCounts))
      matrix.entries[tensor.name.substr(0, tensor.name.size() - kCounts.size())].counts = floats_of(file, tensor);
  }
  if (matrix.entries.empty()) bad_importance(path, "holds no sums of squares");
  for (const auto& [name, entry] : matrix.entries)
    if (entry.sums.empty() || entry.counts.empty() || entry.sums.size() % entry.counts.size() != 0)
      bad_importance(path, fmt::format("{} has {} sums and {} counts", name, entry.sums.size(), entry.counts.size()));
  return matrix;
}

void write_importance_matrix(const ImportanceMatrix& matrix, const std::string& path) {
  GgufMetadata metadata;
  metadata.put_text("general.type", "imatrix");
  metadata.put_texts("imatrix.datasets", matrix.datasets);
  metadata.put_unsigned("imatrix.chunk_count", static_cast<uint64_t>(matrix.chunks));
  metadata.put_unsigned("imatrix.chunk_size", static_cast<uint64_t>(matrix.chunk_size));
  std::vector<GgufEntry> entries;
  std::vector<const std::vector<float>*> values;
  for (const auto& [name, entry] : matrix.entries) {
    const auto matrices = static_cast<int64_t>(entry.counts.size());
    entries.push_back({name + std::string(kSums), kGgmlF32, {matrices, static_cast<int64_t>(entry.sums.size()) / matrices}});
    values.push_back(&entry.sums);
    entries.push_back({name + std::string(kCounts), kGgmlF32, {matrices, 1}});
    values.push_back(&entry.counts);
  }
  stream_gguf(path, metadata, entries,
              [&](size_t index, const WriteGgufBytes& write) { write(values[index]->data(), values[index]->size() * sizeof(float)); });
}

}  // namespace loraine
