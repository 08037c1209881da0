// Picks the reader for a path.
#include "loraine/io/open_tensors.h"

#include <sys/stat.h>

#include "loraine/core/error.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/io/sharded.h"
#include "loraine/io/torch/torch_file.h"

namespace loraine {
namespace {

bool is_there(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

}  // namespace

std::unique_ptr<TensorSource> open_tensor_source(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
      const std::string single = path + "/" + name, index = single + ".index.json";
      if (is_there(single)) return open_tensor_source(single);
      if (is_there(index)) return open_sharded(path, index);
    }
    throw Error(ErrorKind::bad_data, path + ": has no weights: neither model.safetensors nor pytorch_model.bin, nor the index of one",
                "give the folder of a Hugging Face model or a .gguf file");
  }
  if (path.ends_with(".gguf")) return open_gguf(path);
  if (path.ends_with(".bin")) return open_torch_file(path);
  return open_safetensors(path);
}

}  // namespace loraine
