// The safetensors writer. Same bytes as the reference library for the same tensors.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/io/safetensors/safetensors_layout.h"

namespace loraine {
namespace {

// Position of a type in the reference library's list (increasing alignment); larger ones come first in a file.
int layout_rank(Dtype dtype) {
  static constexpr Dtype kOrder[] = {Dtype::Bool, Dtype::U8,  Dtype::I8,  Dtype::I16, Dtype::F16,
                                     Dtype::BF16, Dtype::I32, Dtype::F32, Dtype::F64, Dtype::I64};
  return static_cast<int>(std::find(std::begin(kOrder), std::end(kOrder), dtype) - std::begin(kOrder));
}

uint64_t bytes_of(const SafetensorsEntry& entry) {
  uint64_t bytes = size_of(entry.dtype);
  for (int64_t size : entry.shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      throw Error(ErrorKind::internal, entry.name + ": a shape that cannot be written");
  return bytes;
}

std::string header_text(const std::vector<SafetensorsEntry>& entries, const std::vector<size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    const char* comma = "";
    for (const auto& [key, value] : metadata) {
      header += comma;
      append_json_string(header, key);
      header += ':';
      append_json_string(header, value);
      comma = ",";
    }
    header += '}';
  }
  uint64_t offset = 0;
  for (size_t index : order) {
    const SafetensorsEntry& entry = entries[index];
    if (header.size() > 1) header += ',';
    append_json_string(header, entry.name);
    uint64_t end = offset + bytes_of(entry);
    header += fmt::format(R"(:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name_of(entry.dtype), fmt::join(entry.shape, ","),
                          offset, end);
    offset = end;
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

void stream_safetensors(const std::string& file, const std::vector<SafetensorsEntry>& entries,
                        const std::map<std::string, std::string>& metadata,
                        const std::function<void(size_t index, const WriteBytes& write)>& produce) {
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    int rank_a = layout_rank(entries[a].dtype), rank_b = layout_rank(entries[b].dtype);
    return rank_a != rank_b ? rank_a > rank_b : entries[a].name < entries[b].name;
  });
  std::vector<std::string_view> names;
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw Error(ErrorKind::internal, file + ": two tensors named " + in_quotes(*twice));
  for (std::string_view name : names)
    if (name == "__metadata__" || !is_utf8(name)) throw Error(ErrorKind::internal, file + ": a tensor cannot be named " + in_quotes(name));

  std::string header = header_text(entries, order, metadata);
  uint64_t length = header.size();
  DurableFile out(file);
  out.write(&length, sizeof length);  // little-endian, as the machines this runs on
  out.write(header.data(), header.size());
  for (size_t index : order) {
    uint64_t written = 0;
    produce(index, [&](const void* data, size_t bytes) {
      out.write(data, bytes);
      written += bytes;
    });
    if (written != bytes_of(entries[index]))
      throw Error(ErrorKind::internal, fmt::format("{}: {} bytes written for {}", file, written, entries[index].name));
  }
  out.commit();
}

void write_safetensors(const std::string& file, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors)
    entries.push_back({name, tensor.dtype, std::vector<int64_t>(tensor.shape, tensor.shape + tensor.rank)});
  stream_safetensors(file, entries, metadata, [&](size_t index, const WriteBytes& write) {
    const Tensor& tensor = tensors[index].second;
    size_t row = static_cast<size_t>(tensor.cols()) * size_of(tensor.dtype);
    if (tensor.contiguous()) return write(tensor.data, tensor.bytes());
    for (int64_t r = 0; r < tensor.rows(); ++r) write(tensor.row_range(r, 1).data, row);
  });
}

}  // namespace loraine
