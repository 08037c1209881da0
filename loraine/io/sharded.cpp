// Sharded folders: the index names a shard per tensor; every shard is checked like a single file.
#include "loraine/io/sharded.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/open_tensors.h"

namespace loraine {
namespace {

class ShardedSource : public TensorSource {
 public:
  const std::vector<TensorInfo>& tensors() const override { return infos; }
  Tensor map(const TensorInfo& info) const override { return shard_of(info).map(info); }
  Tensor map_packed(const TensorInfo& info) const override { return shard_of(info).map_packed(info); }
  void read(const TensorInfo& info, const Tensor& out) const override { shard_of(info).read(info, out); }

  std::vector<TensorInfo> infos;
  std::map<std::string, std::unique_ptr<TensorSource>> shards;  // by file

 private:
  const TensorSource& shard_of(const TensorInfo& info) const {
    auto at = shards.find(info.file);
    if (at == shards.end()) throw Error(ErrorKind::internal, info.name + ": not a tensor of this source");
    return *at->second;
  }
};

void check_shard_name(const std::string& index_file, const std::string& name) {
  const char* extension = index_file.ends_with(".bin.index.json") ? ".bin" : ".safetensors";
  bool inside = !name.empty() && name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
                name.find('\0') == std::string::npos && name != "." && name != "..";
  if (!inside || !name.ends_with(extension))
    throw Error(ErrorKind::bad_data,
                index_file + ": names the shard " + in_quotes(name) + ", expected the name of a " + extension + " file in the same folder");
}

}  // namespace

std::unique_ptr<TensorSource> open_sharded(const std::string& folder, const std::string& index_file) {
  Json index = parse_json_file(index_file);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw Error(ErrorKind::bad_data, index_file + ": has no object \"weight_map\" from tensor names to files");
  std::map<std::string, std::vector<std::string>> by_shard;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) throw Error(ErrorKind::bad_data, index_file + ": the shard of " + in_quotes(tensor) + " is not a string");
    check_shard_name(index_file, shard.get<std::string>());
    by_shard[shard.get<std::string>()].push_back(tensor);
  }

  auto source = std::make_unique<ShardedSource>();
  std::vector<std::string> problems;
  for (const auto& [name, tensors] : by_shard) {
    std::string file = folder + "/" + name;
    std::unique_ptr<TensorSource> shard;
    try {
      shard = open_tensor_source(file);
    } catch (const Error& error) { throw with_context(error, "shard listed in " + index_file); }
    for (const std::string& tensor : tensors)
      if (!shard->find(tensor)) problems.push_back(fmt::format("{} should be in {} but is not", in_quotes(tensor), name));
    const auto& infos = shard->tensors();
    source->infos.insert(source->infos.end(), infos.begin(), infos.end());
    source->shards[file] = std::move(shard);
  }
  auto& infos = source->infos;
  std::sort(infos.begin(), infos.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  for (size_t i = 1; i < infos.size(); ++i)
    if (infos[i].name == infos[i - 1].name)
      problems.push_back(fmt::format("{} is in both {} and {}", in_quotes(infos[i].name), infos[i - 1].file, infos[i].file));
  if (!problems.empty()) {
    size_t count = problems.size();
    if (count > 5) problems.resize(5);
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} mismatches with its shards: {}", index_file, count, fmt::join(problems, "; ")),
                "download the model again");
  }
  return source;
}

}  // namespace loraine
