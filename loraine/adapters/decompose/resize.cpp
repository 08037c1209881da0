// See resize.h.
#include "loraine/adapters/decompose/resize.h"

#include <algorithm>
#include <cmath>

#include "loraine/adapters/stored/facts.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

ResizedAdapter all_resized(const LowRankFile& file, const RankChoice& choice, const std::function<void(int64_t, int64_t)>& done) {
  ResizedAdapter out;
  Context ctx;
  for (const LowRankPlace& place : file.modules()) {
    LowRankModule m = file.read(place);
    for (float& x : m.b) x *= static_cast<float>(m.scale);
    Factors f;
    if (m.r > 0) f = singular_of_product(ctx, Tensor(m.b.data(), Dtype::F32, {m.out, m.r}), Tensor(m.a.data(), Dtype::F32, {m.r, m.in}));
    double all = 0, kept = 0;
    for (const float s : f.values) all += static_cast<double>(s) * static_cast<double>(s);
    const int64_t r = kept_rank(f.values, all, choice);
    for (int64_t k = 0; k < r; ++k)
      kept += static_cast<double>(f.values[static_cast<size_t>(k)]) * static_cast<double>(f.values[static_cast<size_t>(k)]);
    out.written.modules.push_back(
        balanced(m.path, m.embedding, m.out, m.in, f, static_cast<int64_t>(f.values.size()), std::max<int64_t>(r, 1)));
    out.energies.push_back({m.path, m.r, r, std::sqrt(all), all > 0 ? kept / all : 1});
    if (done) done(static_cast<int64_t>(out.energies.size()), static_cast<int64_t>(file.modules().size()));
  }
  return out;
}

// What counts over any rank. A bias of B had the adapter's scale, which is 1 from now on.
void keep_others(ResizedAdapter& out, const LowRankFile& file) {
  out.written.like = file.config();
  for (const TensorInfo* info : file.others()) {
    const Tensor values = file.read_other(*info, out.memory.emplace_back());
    const auto [path, kind] = adapter_tensor_name(info->name);
    if (const LowRankPlace* place = kind == "lora_B.bias" ? file.find(path) : nullptr)
      for (int64_t i = 0; i < values.numel(); ++i) values.f32()[i] *= static_cast<float>(place->scale);
    out.written.whole.emplace_back(info->name, values);
  }
}

}  // namespace

ResizedAdapter resize_adapter(const std::string& folder, const RankChoice& choice, bool uniform,
                              const std::function<void(int64_t, int64_t)>& done) {
  check_choice(choice);
  const LowRankFile file(folder);
  refuse_changed_base(file, "resized");
  ResizedAdapter out = all_resized(file, choice, done);
  keep_others(out, file);
  int64_t largest = choice.energy ? 0 : *choice.rank;
  if (choice.energy && uniform)
    for (const LowRankModule& m : out.written.modules) largest = std::max(largest, m.r);
  for (LowRankModule& m : out.written.modules) pad_rank(m, largest);
  const LoraConfig& c = file.config();
  out.written.base = c.base_model_name_or_path;
  const bool by_names = c.target_regex.empty() && c.exclude_regex.empty() && c.exclude_modules.empty() && c.layers_to_transform.empty() &&
                        std::ranges::find(c.target_modules, kAllLinear) == c.target_modules.end();
  if (by_names) out.written.targets = c.target_modules;
  return out;
}

}  // namespace loraine
