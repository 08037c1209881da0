// See extract.h.
#include "loraine/adapters/decompose/extract.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

std::string sizes_text(const TensorInfo& info) { return Tensor(nullptr, Dtype::F32, info.shape).shape_text(); }

// Every tensor of either model is in the other, with the same shape.
void check_same_tensors(const TensorSource& base, const TensorSource& tuned) {
  std::string problems;
  int count = 0;
  const auto problem = [&](const std::string& text) {
    if (++count <= 5) problems += "\n  " + text;
  };
  for (const TensorInfo& info : base.tensors()) {
    const TensorInfo* other = tuned.find(info.name);
    if (!other) problem(info.name + ": the tuned model does not have it");
    else if (other->shape != info.shape)
      problem(fmt::format("{}: {} in the base, {} in the tuned model", info.name, sizes_text(info), sizes_text(*other)));
    else if (info.shape.size() > 4) problem(info.name + ": more than 4 dimensions");
  }
  for (const TensorInfo& info : tuned.tensors())
    if (!base.find(info.name)) problem(info.name + ": the base does not have it");
  if (count)
    throw Error(ErrorKind::bad_data, fmt::format("base and tuned model are not of one form; {} tensors differ:{}", count, problems),
                "give the base that the tuned model was trained from, with the same vocabulary");
}

// tuned − base in f32, and ‖difference‖², ‖base‖². Memory of the size of one tensor, and a second for the base.
struct Difference {
  Buffer memory;
  Tensor values;
  double squares = 0, base_squares = 0;
};
Difference difference_of(const TensorSource& base, const TensorSource& tuned, const std::string& name) {
  const TensorInfo &of_base = *base.find(name), &of_tuned = *tuned.find(name);
  int64_t count = 1;
  for (const int64_t size : of_base.shape) count *= size;
  Difference out;
  out.memory = Buffer(static_cast<size_t>(count) * sizeof(float));
  out.values = Tensor(out.memory.data(), Dtype::F32, of_base.shape);
  const Buffer room(static_cast<size_t>(count) * sizeof(float));
  const Tensor before(room.data(), Dtype::F32, of_base.shape);
  base.read(of_base, before);
  tuned.read(of_tuned, out.values);
  for (int64_t i = 0; i < count; ++i) {
    const auto w = static_cast<double>(before.f32()[i]);
    const float d = out.values.f32()[i] - before.f32()[i];
    out.values.f32()[i] = d;
    out.squares += static_cast<double>(d) * static_cast<double>(d);
    out.base_squares += w * w;
  }
  if (!std::isfinite(out.squares) || !std::isfinite(out.base_squares))
    throw Error(ErrorKind::bad_data, name + ": holds values that are not finite numbers", "download or train the model again");
  return out;
}

// The largest triplets that the choice asks for: with an energy more and more of them, until they hold it.
Factors wanted_triplets(Context& ctx, const Difference& d, const RankChoice& choice, int64_t most) {
  const int64_t all = std::min({d.values.rows(), d.values.cols(), choice.rank.value_or(most)});
  int64_t r = choice.energy ? std::min<int64_t>(8, all) : all;
  for (;;) {
    Factors f = largest_singular(ctx, d.values, r);
    double sum = 0;
    for (const float s : f.values) sum += static_cast<double>(s) * static_cast<double>(s);
    if (!choice.energy || r == all || sum >= *choice.energy * d.squares * (1 - 1e-6)) return f;
    r = std::min(all, 2 * r);
  }
}

// Whether modules_to_save names the tensor's module or one around it, as PEFT reads it: by the ends of paths.
bool is_saved(const std::vector<std::string>& modules, const std::string& tensor) {
  LoraConfig config;
  config.modules_to_save = modules;
  const size_t point = tensor.rfind('.');
  return point != std::string::npos && is_saved_module(config, tensor.substr(0, point));
}

void keep_whole(ExtractedAdapter& out, const TensorSource& tuned, const std::string& name) {
  const TensorInfo& info = *tuned.find(name);
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  out.memory.emplace_back(static_cast<size_t>(count) * sizeof(float));
  const Tensor values(out.memory.back().data(), Dtype::F32, info.shape);
  tuned.read(info, values);
  out.written.whole.emplace_back("base_model.model." + name, values);
  out.whole.push_back(name);
}

}  // namespace

ExtractedAdapter extract_adapter(const TensorSource& base, const TensorSource& tuned, const std::vector<LayerTensor>& layers,
                                 const ExtractOptions& options, const std::function<void(int64_t, int64_t)>& done) {
  check_choice(options.choice);
  check_same_tensors(base, tuned);
  ExtractedAdapter out;
  Context ctx;
  std::set<std::string> of_layers;
  int64_t seen = 0;
  for (const LayerTensor& layer : layers) {
    const TensorInfo* info = base.find(layer.stored);
    if (!info || info->shape.size() != 2 || is_saved(options.modules_to_save, layer.path + ".weight")) continue;
    of_layers.insert(layer.stored);
    Difference d = difference_of(base, tuned, layer.stored);
    if (done) done(++seen, static_cast<int64_t>(layers.size()));
    if (d.squares == 0) {
      out.equal.push_back(layer.path);
      continue;
    }
    const Factors f = wanted_triplets(ctx, d, options.choice, options.most_rank);
    const int64_t r = std::max<int64_t>(1, kept_rank(f.values, d.squares, options.choice));
    double kept = 0;
    for (int64_t k = 0; k < r; ++k)
      kept += static_cast<double>(f.values[static_cast<size_t>(k)]) * static_cast<double>(f.values[static_cast<size_t>(k)]);
    out.written.modules.push_back(
        balanced(layer.path, false, d.values.rows(), d.values.cols(), f, static_cast<int64_t>(f.values.size()), r));
    out.energies.push_back({layer.path, 0, r, std::sqrt(d.squares), std::min(1.0, kept / d.squares)});
  }
  for (const TensorInfo& info : base.tensors()) {
    if (of_layers.contains(info.name)) continue;
    if (is_saved(options.modules_to_save, info.name)) {
      keep_whole(out, tuned, info.name);
      continue;
    }
    const Difference d = difference_of(base, tuned, info.name);
    if (d.squares > 0) out.rest.push_back({info.name, std::sqrt(d.squares / std::max(d.base_squares, 1e-300))});
  }
  check_mapped_files();
  for (const std::string& module : options.modules_to_save)
    if (std::ranges::none_of(out.whole, [&](const std::string& name) { return is_saved({module}, name); }))
      throw Error(ErrorKind::usage, fmt::format("modules_to_save names {}, and no tensor of the models is in such a module", module),
                  "name modules as their tensors have them: embed_tokens, lm_head, norm");
  out.written.modules_to_save = options.modules_to_save;
  if (out.written.modules.empty())
    throw Error(ErrorKind::bad_data, "base and tuned model have the same values in all linear layers", "give two different models");
  int64_t largest = options.uniform ? 1 : 0;
  if (!options.choice.energy) largest = *options.choice.rank;
  for (const LowRankModule& m : out.written.modules)
    if (options.uniform) largest = std::max(largest, m.r);
  for (LowRankModule& m : out.written.modules) pad_rank(m, largest);
  return out;
}

}  // namespace loraine
