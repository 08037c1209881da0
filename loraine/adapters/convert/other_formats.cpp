// Which form an adapter has, and PEFT's own.
#include "loraine/adapters/convert/other_formats.h"

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/open_tensors.h"

namespace loraine {

const char* name_of(AdapterFormat format) {
  switch (format) {
    case AdapterFormat::peft: return "peft";
    case AdapterFormat::mlx: return "mlx";
    case AdapterFormat::gguf: return "gguf";
    case AdapterFormat::kohya: return "kohya";
  }
  return "";
}

AdapterFormat format_of_adapter(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  if (path.ends_with(".gguf")) return AdapterFormat::gguf;
  if (fs::is_directory(path, failed)) {
    const std::string config = path + "/adapter_config.json";
    if (!fs::exists(config, failed))
      throw Error(ErrorKind::bad_data, path + ": has no adapter_config.json",
                  "give a folder of PEFT or of mlx-lm, a .gguf, or a .safetensors file");
    const Json json = parse_json_file(config);
    if (json.is_object() && json.contains("peft_type")) return AdapterFormat::peft;
    if (fs::exists(path + "/adapters.safetensors", failed)) return AdapterFormat::mlx;
    throw Error(ErrorKind::bad_data, config + ": has no peft_type, and no adapters.safetensors of mlx-lm lies beside it");
  }
  if (path.ends_with(".safetensors")) {
    const auto source = open_tensor_source(path);
    for (const TensorInfo& info : source->tensors())
      if (info.name.ends_with(".lora_down.weight")) return AdapterFormat::kohya;
    throw Error(ErrorKind::bad_data, path + ": holds no tensor that ends in .lora_down.weight, as files with kohya's names do",
                "of an adapter of PEFT or mlx-lm give the folder");
  }
  throw Error(ErrorKind::bad_data, path + ": no such adapter",
              "give a folder of PEFT or of mlx-lm, a .gguf, or a .safetensors file with kohya's names");
}

LowRankSet read_peft_set(const std::string& folder) {
  const LowRankFile file(folder);
  refuse_beside(file, "converted");
  LowRankSet set;
  set.base = file.config().base_model_name_or_path;
  for (const LowRankPlace& place : file.modules()) set.modules.push_back(file.read(place));
  return set;
}

}  // namespace loraine
