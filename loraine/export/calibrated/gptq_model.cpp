// GPTQ over a model as optimum does it (true_sequential): of each layer, the sites in the order in which its forward reaches them, every
// one seeing what the quantised ones before it give.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/calibrated/calibrated_model.h"
#include "loraine/export/calibrated/layer_walk.h"
#include "loraine/export/calibrated/packed_words.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/model/layer.h"
#include "loraine/quant/inverse_factor.h"

namespace loraine {
namespace {

constexpr double kDamp = 0.1;  // transformers' GPTQConfig, which LLaMA-Factory leaves as it is

[[noreturn]] void not_quantisable(const std::string& what, const std::string& method) {
  throw Error(ErrorKind::unsupported, fmt::format("{}, of which no {} checkpoint is written", what, method == "awq" ? "AWQ" : "GPTQ"),
              "export it without export_quantization_bit, or as a GGUF (export_format: gguf)");
}

// The matrices of a layer that lie in F32 for the time of their work, and their places in the model.
class LayerInF32 {
 public:
  ~LayerInF32() {
    for (const Held& held : held_) held.part->weight = held.stored;
  }
  Tensor take(WeightPart& part) {
    const Tensor stored = part.weight;
    Held& held = held_.emplace_back(Held{&part, stored, Buffer(static_cast<size_t>(stored.numel()) * sizeof(float))});
    const Tensor f32(held.memory.data(), Dtype::F32, {stored.rows(), stored.cols()});
    convert(f32.data, Dtype::F32, stored.data, stored.dtype, stored.numel());
    release_if_mapped(stored.data, stored.bytes());
    part.weight = f32;
    return f32;
  }

 private:
  struct Held {
    WeightPart* part;
    Tensor stored;
    Buffer memory;
  };
  std::vector<Held> held_;
};

// Σ x xᵀ / tokens over what a site is given.
Buffer hessian_of(LayerWalk& walk, int64_t layer, int64_t site, int64_t in) {
  Buffer memory(static_cast<size_t>(in * in) * sizeof(float), true);
  const Tensor hessian(memory.data(), Dtype::F32, {in, in});
  const float each = 1 / static_cast<float>(walk.tokens());
  Context ctx;
  const auto add = [&](int64_t at, const Tensor& x) {
    if (at != site) return true;
    matmul_tn(ctx, hessian, x, x, each, 1);
    return false;
  };
  walk.look(layer, add);
  return memory;
}

void quantise_site(Weight& weight, const Tensor& hessian, const CalibratedModel& what, LayerInF32& held, CalibrationReport& report) {
  Context ctx;
  const InverseFactor factor = inverse_factor(ctx, hessian, kDamp, order_within_groups(hessian, what.scheme.group_size));
  for (WeightPart& part : weight.parts) {
    const Tensor w = held.take(part);
    const int64_t out = w.rows(), in = w.cols();
    const Buffer before_memory(w.bytes()), nearest_memory(w.bytes()), zero_memory(w.bytes(), true);
    const Tensor before(before_memory.data(), Dtype::F32, {out, in}), nearest(nearest_memory.data(), Dtype::F32, {out, in});
    std::copy_n(w.f32(), w.numel(), before.f32());
    std::copy_n(w.f32(), w.numel(), nearest.f32());
    const GroupCodes codes = gptq_quantise(ctx, w, factor, what.scheme);
    round_to_nearest(nearest, what.scheme);
    const double whole = product_error(ctx, before, Tensor(zero_memory.data(), Dtype::F32, {out, in}), hessian);
    if (whole > 0) {
      report.error += product_error(ctx, w, before, hessian) / whole;
      report.of_nearest += product_error(ctx, nearest, before, hessian) / whole;
    }
    add_gptq(what.spool, part.stored, codes, out, in, what.scheme);
    ++report.matrices;
  }
}

}  // namespace

void check_quantisable(const Model& model, const GroupScheme& scheme, const std::string& method) {
  if (model.config.nested) not_quantisable("the model is the text part of one with more parts", method);
  if (!model.experts().empty()) not_quantisable("the model has experts (" + model.experts().front()->module + ")", method);
  if (!model.config.names.turned.empty()) not_quantisable("the model's files hold its matrices as [in, out]", method);
  for (const Weight* site : model.layer_sites())
    for (const WeightPart& part : site->parts) {
      if (site->whole || site->bare || part.transposed)
        not_quantisable(fmt::format("the model has {}, which is no linear layer to be quantised", part.name), method);
      const bool rows_fit = part.weight.rows() % 32 == 0,
                 columns_fit = part.weight.cols() % (method == "awq" ? scheme.group_size : 32) == 0;
      if (rows_fit && columns_fit) continue;
      throw Error(
          ErrorKind::unsupported,
          fmt::format("{} has shape {}, and {} asks for a multiple of 32 rows and of {} columns", part.name, part.weight.shape_text(),
                      method == "awq" ? "AWQ" : "GPTQ", method == "awq" ? scheme.group_size : 32),
          method == "awq" && rows_fit ? "choose another export_quantization_group_size" : "export it as a GGUF (export_format: gguf)");
    }
}

CalibrationReport gptq_model(const CalibratedModel& what) {
  Model& model = what.model;
  check_quantisable(model, what.scheme, "gptq");
  const std::vector<Weight*> sites = model.layer_sites();
  LayerWalk walk(model, what.texts);
  CalibrationReport report;
  report.tokens = walk.tokens();
  for (size_t l = 0; l < model.layers.size(); ++l) {
    if (what.keep_going && !what.keep_going()) throw Stopped();
    const auto layer = static_cast<int64_t>(l);
    if (what.started) what.started(layer);
    const std::vector<int64_t> order = sites_in_order(walk, layer);
    for (const Site* site : model.layers[l]->parts().sites)
      if (std::ranges::find(order, site->index) == order.end())
        not_quantisable(fmt::format("the model multiplies {} in another way than a linear layer", site->weight.parts.front().name), "gptq");
    LayerInF32 held;
    for (const int64_t site : order) {
      Weight& weight = *sites.at(static_cast<size_t>(site));
      const Buffer memory = hessian_of(walk, layer, site, weight.in());
      quantise_site(weight, Tensor(memory.data(), Dtype::F32, {weight.in(), weight.in()}), what, held, report);
    }
    walk.pass(layer);
    check_mapped_files();
  }
  return report;
}

std::vector<WeightToWrite> with_packed(const Model& model, std::vector<WeightToWrite> weights, PackedSpool& spool) {
  std::set<std::string> replaced;
  for (const Weight* site : model.layer_sites())
    for (const WeightPart& part : site->parts) replaced.insert(part.stored + ".weight");
  std::vector<WeightToWrite> packed = spool.weights();
  for (const WeightToWrite& weight : packed) replaced.insert(weight.entry.name);  // norms that AWQ has scaled
  std::erase_if(weights, [&](const WeightToWrite& weight) { return replaced.contains(weight.entry.name); });
  for (WeightToWrite& weight : packed) weights.push_back(std::move(weight));
  std::ranges::stable_sort(weights, {}, [](const WeightToWrite& weight) { return weight.entry.name; });
  return weights;
}

Json gptq_config(const GroupScheme& scheme) {
  return {{"bits", scheme.bits},   {"group_size", scheme.group_size}, {"desc_act", false},           {"act_group_aware", true},
          {"sym", true},           {"true_sequential", true},         {"damp_percent", kDamp},       {"lm_head", false},
          {"pack_dtype", "int32"}, {"quant_method", "gptq"},          {"checkpoint_format", "gptq"}, {"format", "gptq"}};
}

}  // namespace loraine
