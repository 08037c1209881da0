// Cutting into shards, and the index that names the shard of each tensor.
#include "loraine/io/weight_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/io/torch/torch_file.h"

namespace loraine {

WeightToWrite stored_weight(const TensorSource& source, const TensorInfo& info) {
  return {{info.name, info.dtype, info.shape}, [&source, &info](const WriteBytes& write) {
            const Tensor mapped = source.map(info);
            if (!mapped.data) {
              const Tensor shape(nullptr, info.dtype, info.shape);
              const Buffer memory(shape.bytes());
              source.read(info, Tensor(memory.data(), info.dtype, info.shape));
              write(memory.data(), shape.bytes());
              return;
            }
            constexpr size_t kPiece = 64u << 20;
            const char* data = static_cast<const char*>(mapped.data);
            for (size_t at = 0; at < mapped.bytes(); at += kPiece) {
              const size_t bytes = std::min(kPiece, mapped.bytes() - at);
              write(data + at, bytes);
              release_pages(data + at, bytes);
            }
          }};
}

WeightToWrite turned(WeightToWrite weight) {
  std::vector<int64_t> shape = {weight.entry.shape.at(1), weight.entry.shape.at(0)};
  std::swap(shape, weight.entry.shape);
  weight.write = [shape, type = weight.entry.dtype, inner = std::move(weight.write)](const WriteBytes& write) {
    const Tensor size(nullptr, type, shape);
    const Buffer before(size.bytes()), after(size.bytes());
    size_t at = 0;
    inner([&](const void* bytes, size_t count) {
      std::memcpy(static_cast<char*>(before.data()) + at, bytes, count);
      at += count;
    });
    turn(Tensor(after.data(), type, {shape[1], shape[0]}), Tensor(before.data(), type, shape));
    write(after.data(), after.bytes());
  };
  return weight;
}

int64_t write_weight_files(const std::vector<WeightToWrite>& weights, const std::string& folder, const WeightFormat& format) {
  std::vector<std::vector<const WeightToWrite*>> shards(1);
  int64_t in_shard = 0, total = 0, parameters = 0;
  for (const WeightToWrite& weight : weights) {
    const Tensor shape(nullptr, weight.entry.dtype, weight.entry.shape);
    const int64_t bytes = static_cast<int64_t>(shape.bytes());
    if (in_shard > 0 && in_shard + bytes > format.shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(&weight);
    in_shard += bytes;
    total += bytes;
    parameters += shape.numel();
  }
  make_folders(folder);
  nlohmann::json index = {{"metadata", {{"total_parameters", parameters}, {"total_size", total}}},
                          {"weight_map", nlohmann::json::object()}};
  const std::string stem = format.legacy ? "pytorch_model" : "model", extension = format.legacy ? ".bin" : ".safetensors";
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string place = shards.size() == 1 ? "" : fmt::format("-{:05}-of-{:05}", s + 1, shards.size());
    const std::string name = stem + place + extension;
    std::vector<SafetensorsEntry> entries;
    for (const WeightToWrite* weight : shards[s]) {
      entries.push_back(weight->entry);
      index["weight_map"][weight->entry.name] = name;
    }
    const auto produce = [&](size_t i, const WriteBytes& write) {
      shards[s][i]->write(write);
      check_mapped_files();
    };
    if (format.legacy) stream_torch_file(folder + "/" + name, entries, produce);
    else stream_safetensors(folder + "/" + name, entries, {{"format", "pt"}}, produce);
  }
  if (shards.size() > 1) write_file(folder + "/" + stem + extension + ".index.json", index.dump(2) + "\n");
  return static_cast<int64_t>(shards.size());
}

}  // namespace loraine
