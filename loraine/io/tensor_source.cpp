// Picks the reader for a path, and what all readers share.
#include "loraine/io/tensor_source.h"

#include <sys/stat.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/io/gguf.h"
#include "loraine/io/safetensors.h"
#include "loraine/io/sharded.h"

namespace loraine {
namespace {

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

}  // namespace

const TensorInfo* TensorSource::find(std::string_view name) const {
  const auto& all = tensors();
  auto at = std::lower_bound(all.begin(), all.end(), name, [](const TensorInfo& info, std::string_view key) { return info.name < key; });
  return at != all.end() && at->name == name ? &*at : nullptr;
}

std::unique_ptr<TensorSource> open_tensor_source(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    std::string single = path + "/model.safetensors", index = path + "/model.safetensors.index.json";
    if (exists(single)) return open_safetensors(single);
    if (exists(index)) return open_sharded(path, index);
    bool pickled = exists(path + "/pytorch_model.bin") || exists(path + "/pytorch_model.bin.index.json");
    throw Error(ErrorKind::bad_data,
                path + ": has neither model.safetensors nor model.safetensors.index.json" +
                    (pickled ? ", only pytorch_model.bin, which is not read because a pickle can run code" : ""),
                pickled ? "save the model again with safe_serialization=True" : "give the folder of a Hugging Face model or a .gguf file");
  }
  if (path.ends_with(".gguf")) return open_gguf(path);
  return open_safetensors(path);
}

}  // namespace loraine
