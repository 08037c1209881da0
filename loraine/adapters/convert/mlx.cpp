// mlx-lm 0.32: mlx_lm/tuner/lora.py and utils.py. y += scale · (x lora_a) lora_b, so its matrices are PEFT's transposed.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <list>
#include <map>
#include <set>

#include "loraine/adapters/convert/other_formats.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/io/tensors/turned_source.h"

namespace loraine {
namespace {

constexpr std::string_view kMlxLayers = "model.layers.";

[[noreturn]] void bad_mlx(const std::string& what) { throw Error(ErrorKind::bad_data, what, "is it an adapter of mlx-lm?"); }

bool is_embedding(const std::string& path) { return path == kEmbeddingPath; }

// [cols, rows] of a matrix [rows, cols], in f32.
std::vector<float> turned_values(const TensorSource& source, const TensorInfo& info) {
  std::vector<float> values(static_cast<size_t>(info.shape[0] * info.shape[1])), out(values.size());
  const Tensor stored(values.data(), Dtype::F32, {info.shape[0], info.shape[1]});
  source.read(info, stored);
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", info.file, info.name));
  turn(Tensor(out.data(), Dtype::F32, {info.shape[1], info.shape[0]}), stored);
  return out;
}

// "self_attn.q_proj" of model.layers.0.self_attn.q_proj; a module outside layers by its whole path.
std::string mlx_key(const std::string& path) {
  if (is_embedding(path) || path == "lm_head") return path;
  const size_t point = path.starts_with(kMlxLayers) ? path.find('.', kMlxLayers.size()) : path.npos;
  if (point == path.npos)
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: is neither in model.layers nor the embedding or lm_head, and mlx-lm may call it something else", path),
                "merge it into its base with loraine export and convert the model");
  return path.substr(point + 1);
}

Json read_mlx_config(const std::string& folder, double& scale) {
  const std::string file = folder + "/adapter_config.json";
  Json config = parse_json_file(file);
  const std::string type = config.is_object() && config.contains("fine_tune_type") && config["fine_tune_type"].is_string()
                               ? config["fine_tune_type"].get<std::string>()
                               : "lora";
  if (type != "lora")
    throw Error(ErrorKind::unsupported, fmt::format("{}: fine_tune_type is {}, and the adapters of lora are converted", file, type),
                "fuse it with mlx_lm.fuse and convert the model");
  const Json parameters = config.is_object() ? config.value("lora_parameters", Json()) : Json();
  if (!parameters.is_object() || !parameters.contains("scale") || !parameters["scale"].is_number())
    bad_mlx(file + ": no lora_parameters with a scale");
  scale = parameters["scale"].get<double>();
  return config;
}

}  // namespace

LowRankSet read_mlx(const std::string& folder) {
  double scale = 1;
  const Json config = read_mlx_config(folder, scale);
  const std::string file = folder + "/adapters.safetensors";
  const auto source = open_tensor_source(file);
  LowRankSet set;
  if (config.contains("model") && config["model"].is_string()) set.base = config["model"].get<std::string>();
  for (const TensorInfo& info : source->tensors()) {
    if (info.name.ends_with(".lora_b")) {
      if (!source->find(info.name.substr(0, info.name.size() - 1) + "a")) bad_mlx(file + ": " + info.name + " has no lora_a beside it");
      continue;
    }
    if (!info.name.ends_with(".lora_a"))
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: {} is neither lora_a nor lora_b, and such adapters are not converted", file, info.name),
                  "fuse it with mlx_lm.fuse and convert the model");
    const std::string path = info.name.substr(0, info.name.size() - 7);
    const TensorInfo* b = source->find(path + ".lora_b");
    if (!b) bad_mlx(file + ": " + info.name + " has no lora_b beside it");
    if (info.shape.size() != 2 || b->shape.size() != 2 || info.shape[1] != b->shape[0])
      bad_mlx(fmt::format("{}: {} {} and its lora_b {} are no matrices of one rank (experts are not converted)", file, info.name,
                          Tensor(nullptr, Dtype::F32, info.shape).shape_text(), Tensor(nullptr, Dtype::F32, b->shape).shape_text()));
    set.modules.push_back({path, is_embedding(path), info.shape[0], b->shape[1], info.shape[1], scale, turned_values(*source, info),
                           turned_values(*source, *b)});
  }
  if (set.modules.empty()) bad_mlx(file + ": holds no lora_a");
  std::ranges::sort(set.modules, before_by_number, &LowRankModule::path);
  return set;
}

void write_mlx(const LowRankSet& set, const std::string& folder, bool overwrite) {
  check_free(folder, overwrite);
  std::set<std::string> keys;
  int64_t rank = 0;
  bool one_scale = true;
  for (const LowRankModule& m : set.modules) {
    keys.insert(mlx_key(m.path));
    rank = std::max(rank, m.r);
    one_scale &= m.scale == set.modules.front().scale;
  }
  if (rank == 0) throw Error(ErrorKind::bad_data, "the adapter has no module of a rank above 0");
  std::list<std::vector<float>> memory;
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (LowRankModule m : set.modules) {
    if (!one_scale)
      for (float& x : m.b) x *= static_cast<float>(m.scale);
    pad_rank(m, rank);
    std::vector<float>&a = memory.emplace_back(m.a.size()), &b = memory.emplace_back(m.b.size());
    const Tensor to_a(a.data(), Dtype::F32, {m.in, m.r}), to_b(b.data(), Dtype::F32, {m.r, m.out});
    turn(to_a, Tensor(m.a.data(), Dtype::F32, {m.r, m.in}));
    turn(to_b, Tensor(m.b.data(), Dtype::F32, {m.out, m.r}));
    tensors.emplace_back(m.path + ".lora_a", to_a);
    tensors.emplace_back(m.path + ".lora_b", to_b);
  }
  // num_layers -1: mlx-lm takes all layers then, and leaves at 0 what the file does not have
  const nlohmann::ordered_json config = {
      {"fine_tune_type", "lora"},
      {"lora_parameters", {{"dropout", 0.0}, {"keys", keys}, {"rank", rank}, {"scale", one_scale ? set.modules.front().scale : 1.0}}},
      {"model", set.base},
      {"num_layers", -1}};
  StagedFiles staged(folder);
  write_safetensors(staged.path() + "/adapters.safetensors", tensors, {{"format", "mlx"}});
  write_file(staged.path() + "/adapter_config.json", config.dump(4));
  staged.commit();
}

}  // namespace loraine
