// Files of one tensor set with the names of kohya-ss/sd-scripts: <prefix><path with underscores>.lora_down.weight, .lora_up.weight, .alpha;
// the scale is alpha / r of each module.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <list>
#include <map>

#include "loraine/adapters/convert/other_formats.h"
#include "loraine/core/error.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine {
namespace {

constexpr std::string_view kKohyaPrefixes[] = {"lora_unet_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_te_", "lycoris_", "lora_"};

std::string underscored(std::string path) {
  std::ranges::replace(path, '.', '_');
  return path;
}

std::string without_kohya_prefix(const std::string& name) {
  for (const std::string_view prefix : kKohyaPrefixes)
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  return name;
}

std::vector<float> kohya_values(const TensorSource& source, const TensorInfo& info) {
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  std::vector<float> out(static_cast<size_t>(count));
  source.read(info, Tensor(out.data(), Dtype::F32, info.shape));
  if (!std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }))
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", info.file, info.name));
  return out;
}

// The one module of the base that the name can mean.
std::string resolved(const std::string& file, const std::string& name, const std::multimap<std::string, std::string>& paths) {
  const auto [first, last] = paths.equal_range(without_kohya_prefix(name));
  if (first == last)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} is none of the base's modules", file, name),
                "give the base that the adapter was made for");
  if (std::next(first) != last)
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: {} can mean {} and {}: with underscores for points they are one", file, name, first->second,
                            std::next(first)->second),
                "rename the tensor in the file");
  return first->second;
}

}  // namespace

LowRankSet read_kohya(const std::string& file, const std::vector<std::string>& paths) {
  if (paths.empty())
    throw Error(ErrorKind::usage,
                file + ": its names have underscores in the place of points, and only the base's own names tell which is which",
                "give the base: --model_name_or_path DIR");
  std::multimap<std::string, std::string> by_name;
  for (const std::string& path : paths) by_name.emplace(underscored(path), path);
  const auto source = open_tensor_source(file);
  LowRankSet set;
  for (const TensorInfo& info : source->tensors()) {
    const size_t point = info.name.find('.');
    const std::string stem = info.name.substr(0, point), kind = point == std::string::npos ? "" : info.name.substr(point);
    if (kind == ".lora_up.weight" || kind == ".alpha") {
      if (!source->find(stem + ".lora_down.weight"))
        throw Error(ErrorKind::bad_data, fmt::format("{}: {} has no lora_down.weight beside it", file, info.name));
      continue;
    }
    if (kind != ".lora_down.weight")
      throw Error(ErrorKind::unsupported, fmt::format("{}: {} is neither lora_down, lora_up nor alpha", file, info.name),
                  "LoRA alone is converted (no LoHa, LoKr, DoRA)");
    const TensorInfo *up = source->find(stem + ".lora_up.weight"), *alpha = source->find(stem + ".alpha");
    if (!up || up->shape.size() != 2 || info.shape.size() != 2 || up->shape[1] != info.shape[0] || info.shape[0] == 0)
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} and its lora_up.weight are no two matrices of one rank", file, info.name));
    LowRankModule m{resolved(file, stem, by_name), false, info.shape[1], up->shape[0], info.shape[0], 1, kohya_values(*source, info),
                    kohya_values(*source, *up)};
    if (alpha) m.scale = static_cast<double>(kohya_values(*source, *alpha).at(0)) / static_cast<double>(m.r);  // without one it is r
    set.modules.push_back(std::move(m));
  }
  if (set.modules.empty()) throw Error(ErrorKind::bad_data, file + ": holds no lora_down.weight");
  std::ranges::sort(set.modules, before_by_number, &LowRankModule::path);
  for (size_t i = 1; i < set.modules.size(); ++i)
    if (set.modules[i].path == set.modules[i - 1].path)
      throw Error(ErrorKind::bad_data, fmt::format("{}: two of its names mean {}", file, set.modules[i].path));
  return set;
}

void write_kohya(const LowRankSet& set, const std::string& file, const std::string& prefix, bool overwrite) {
  std::error_code failed;
  if (!overwrite && std::filesystem::exists(file, failed))
    throw Error(ErrorKind::usage, file + ": is there already", "choose another name, or add --overwrite_output_dir");
  std::map<std::string, std::string> names;
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::list<std::vector<float>> memory;
  for (const LowRankModule& m : set.modules) {
    if (m.embedding)
      throw Error(ErrorKind::unsupported, m.path + ": is the embedding, for which kohya's names have no form",
                  "convert an adapter of linear layers");
    const std::string name = prefix + underscored(m.path);
    if (const auto [at, added] = names.emplace(name, m.path); !added)
      throw Error(ErrorKind::unsupported, fmt::format("{} and {} would both be called {}", at->second, m.path, name),
                  "kohya's names cannot tell them apart");
    if (m.r == 0) continue;
    std::vector<float>&a = memory.emplace_back(m.a), &b = memory.emplace_back(m.b),
    &alpha = memory.emplace_back(1, static_cast<float>(m.scale * static_cast<double>(m.r)));
    tensors.emplace_back(name + ".lora_down.weight", Tensor(a.data(), Dtype::F32, {m.r, m.in}));
    tensors.emplace_back(name + ".lora_up.weight", Tensor(b.data(), Dtype::F32, {m.out, m.r}));
    tensors.emplace_back(name + ".alpha", Tensor(alpha.data(), Dtype::F32, std::initializer_list<int64_t>{}));
  }
  write_safetensors(file, tensors, {{"format", "pt"}, {"ss_network_module", "networks.lora"}, {"ss_base_model_version", set.base}});
}

}  // namespace loraine
