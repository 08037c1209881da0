// See base_match.h.
#include "loraine/adapters/base_match.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/fingerprint.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/training_record.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::string plain_path(const std::string& path) {
  std::string text = fs::path(path).lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

// "Qwen/Qwen3-0.6B", "/models/Qwen3-0.6B", a folder of the hub's cache (…/models--Qwen--Qwen3-0.6B/snapshots/…): the model's own name, in
// lower case.
std::string model_name(const std::string& path) {
  std::string text = plain_path(path);
  if (const size_t cache = text.rfind("models--"); cache != std::string::npos) {
    text = text.substr(cache, text.find('/', cache) - cache);
    text = text.substr(text.rfind("--") + 2);
  }
  text = fs::path(text).filename().string();
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Of the model at `path`; empty where there is none that can be read.
std::string fingerprint_at(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return "";
  try {
    return weights_fingerprint(*open_tensor_source(path));
  } catch (const Error&) { return ""; }  // what is wrong with it is nobody's concern here
}

}  // namespace

std::string base_mismatch(const LoraConfig& config, const std::string& folder, const ModelFiles& base) {
  const std::string& name = config.base_model_name_or_path;
  const auto record = read_training_record(folder);
  std::string known = record ? record->base_fingerprint : "";
  std::error_code ignored;
  if (known.empty()) {
    if (name.empty() || plain_path(name) == plain_path(base.path) || fs::equivalent(name, base.path, ignored)) return "";
    known = fingerprint_at(name);
  }
  const std::string& loaded = base.fingerprint;
  if (!known.empty() && !loaded.empty()) {
    if (known == loaded) return "";
    const bool same_place = plain_path(name) == plain_path(base.path) || fs::equivalent(name, base.path, ignored);
    return same_place ? fmt::format("the adapter {} was made for other weights than {} holds now", folder, base.path)
                      : fmt::format("the adapter {} was made for the base model {}, and the one loaded, {}, has other weights", folder,
                                    name, base.path);
  }
  const std::string made_for = model_name(name), here = model_name(base.path);  // a GGUF's name goes on: …-q8_0.gguf
  if ((!made_for.empty() && here.starts_with(made_for)) || base.config.value("_name_or_path", Json()) == name) return "";
  return fmt::format(
      "the adapter {} was made for the base model {}, and the one loaded is {}; whether their weights are the same cannot be told", folder,
      name, base.path);
}

}  // namespace loraine
