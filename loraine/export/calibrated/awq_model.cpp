// AWQ over a model as autoawq does it: every layer is looked at as it is; then columns are scaled up and what feeds them down, ranges are
// cut, and the matrices are rounded. The model computes the same but for the rounding.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/calibrated/calibrated_model.h"
#include "loraine/export/calibrated/layer_walk.h"
#include "loraine/export/calibrated/packed_words.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/model/layer.h"
#include "loraine/quant/awq.h"

namespace loraine {
namespace {

[[noreturn]] void no_awq(const std::string& what) {
  throw Error(ErrorKind::unsupported, fmt::format("{}, and AWQ scales the columns of q, k, v, o, gate, up and down alone", what),
              "set export_quantization_method: gptq");
}

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// What a site is given, summed up.
struct SeenInputs {
  Buffer memory;
  Tensor hessian;             // [in, in] Σ x xᵀ / tokens
  std::vector<double> sizes;  // [in] Σ |x|
};

// A matrix of the layer in F32, and what a site's input is to it.
struct AwqMatrix {
  WeightPart* part = nullptr;
  SeenInputs* seen = nullptr;
  Buffer memory;
  Tensor f32;
  std::vector<float> bias;  // where its rows are scaled and it has one
};

// What columns are scaled against: a norm, or the rows of a matrix.
struct AwqScaling {
  Norm* norm = nullptr;
  std::string feeds;  // "v_proj"
  std::vector<std::string> matrices;
};

class AwqLayer {
 public:
  AwqLayer(const CalibratedModel& what, LayerWalk& walk, int64_t layer) : what_(what), model_(what.model) {
    Layer& own = *model_.layers[static_cast<size_t>(layer)];
    for (Branch& branch : own.branches) {
      Parts parts = branch.mixer->parts();
      if (!branch.before || branch.normed_residual || branch.beside || !branch.before.config.has_weight)
        no_awq("a layer of the model has branches in parallel, or without a norm before them");
      for (Site* site : parts.sites)
        for (WeightPart& part : site->weight.parts) {
          if (!matrices_.emplace(last_name(part.name), AwqMatrix{&part, &seen_[site->index], {}, {}, {}}).second)
            no_awq("a layer of the model has two matrices " + last_name(part.name));
          norms_[last_name(part.name)] = &branch.before;
        }
      for (const Vector* vector : parts.vectors) values_normed_ = values_normed_ || vector->name.find("v_norm") != std::string::npos;
    }
    static const std::set<std::string> kNames = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    for (const auto& [name, matrix] : matrices_)
      if (!kNames.contains(name)) no_awq("the model has matrices " + name);
    if (matrices_.size() != kNames.size()) no_awq("a layer of the model has not all of q, k, v, o, gate, up and down");
    see(walk, layer);
    for (auto& [name, matrix] : matrices_) {
      const Tensor& stored = matrix.part->weight;
      matrix.memory = Buffer(static_cast<size_t>(stored.numel()) * sizeof(float));
      matrix.f32 = Tensor(matrix.memory.data(), Dtype::F32, {stored.rows(), stored.cols()});
      convert(matrix.f32.data, Dtype::F32, stored.data, stored.dtype, stored.numel());
      if (matrix.part->bias) matrix.bias.assign(matrix.part->bias, matrix.part->bias + stored.rows());
    }
  }

  void quantise(CalibrationReport& report) {
    std::map<std::string, double> nearest;
    Context ctx;
    for (auto& [name, matrix] : matrices_)
      nearest[name] = error_of(ctx, matrix, matrix.f32, [&](const Tensor& w) { round_with_zeros(w, what_.scheme); });
    std::vector<AwqScaling> scalings = {{norms_.at("q_proj"), "", {"q_proj", "k_proj", "v_proj"}},
                                        {norms_.at("gate_proj"), "", {"gate_proj", "up_proj"}},
                                        {nullptr, "up_proj", {"down_proj"}}};
    const Tensor &v = matrices_.at("v_proj").f32, &o = matrices_.at("o_proj").f32;
    if (v.rows() == o.rows() && v.cols() == o.cols() && !values_normed_)
      scalings.push_back({nullptr, "v_proj", {"o_proj"}});  // not with shared heads
    std::vector<std::vector<float>> scales;                 // all are found of the layer as it is
    for (const AwqScaling& scaling : scalings) {
      std::vector<Tensor> weights;
      for (const std::string& name : scaling.matrices) weights.push_back(matrices_.at(name).f32);
      const SeenInputs& seen = *matrices_.at(scaling.matrices.front()).seen;
      std::vector<float> sizes;
      for (const double sum : seen.sizes) sizes.push_back(static_cast<float>(sum / static_cast<double>(report.tokens)));
      scales.push_back(awq_scales(ctx, weights, seen.hessian, sizes, what_.scheme));
    }
    for (size_t i = 0; i < scalings.size(); ++i) apply(scalings[i], scales[i]);
    for (auto& [name, matrix] : matrices_) {
      const bool cut = name != "q_proj" && name != "k_proj";  // autoawq: what meets in softmax stays whole
      GroupCodes codes;
      report.error += error_of(ctx, matrix, matrix.f32, [&, &seen = *matrix.seen](const Tensor& w) {
        if (cut) awq_clip(w, seen.hessian, what_.scheme);
        codes = round_with_zeros(w, what_.scheme);
      });
      report.of_nearest += nearest.at(name);
      add_awq(what_.spool, matrix.part->stored, codes, matrix.f32.rows(), matrix.f32.cols(), what_.scheme);
      if (!matrix.bias.empty() && (name == "v_proj" || name == "up_proj")) add_vector(matrix.part->stored + ".bias", matrix.bias);
      ++report.matrices;
    }
  }

 private:
  void see(LayerWalk& walk, int64_t layer) {
    Context ctx;
    const float each = 1 / static_cast<float>(walk.tokens());
    const LayerWalk::SeesInput add = [&](int64_t site, const Tensor& x) {
      const auto at = seen_.find(site);
      if (at == seen_.end()) return true;
      SeenInputs& seen = at->second;
      if (!seen.hessian.data) {
        seen.memory = Buffer(static_cast<size_t>(x.cols() * x.cols()) * sizeof(float), true);
        seen.hessian = Tensor(seen.memory.data(), Dtype::F32, {x.cols(), x.cols()});
        seen.sizes.assign(static_cast<size_t>(x.cols()), 0);
      }
      matmul_tn(ctx, seen.hessian, x, x, each, 1);
      for (int64_t row = 0; row < x.rows(); ++row) {
        const float* at_row = x.f32() + row * x.row_stride;
        for (size_t i = 0; i < seen.sizes.size(); ++i) seen.sizes[i] += static_cast<double>(std::abs(at_row[i]));
      }
      return true;
    };
    walk.pass(layer, &add);
    for (const auto& [site, seen] : seen_)
      if (!seen.hessian.data) no_awq("the model multiplies a matrix in another way than a linear layer");
  }

  // The squared error of the product of `w` changed so, by that of the product.
  template <class Change>
  double error_of(Context& ctx, const AwqMatrix& matrix, const Tensor& w, const Change& change) const {
    const Buffer changed_memory(w.bytes()), zero_memory(w.bytes(), true);
    const Tensor changed(changed_memory.data(), Dtype::F32, {w.rows(), w.cols()});
    std::copy_n(w.f32(), w.numel(), changed.f32());
    change(changed);
    const double whole = product_error(ctx, w, Tensor(zero_memory.data(), Dtype::F32, {w.rows(), w.cols()}), matrix.seen->hessian);
    return whole > 0 ? product_error(ctx, changed, w, matrix.seen->hessian) / whole : 0;
  }

  void apply(const AwqScaling& scaling, const std::vector<float>& scales) {
    for (const std::string& name : scaling.matrices) {
      const Tensor& w = matrices_.at(name).f32;
      for (int64_t row = 0; row < w.rows(); ++row)
        for (int64_t i = 0; i < w.cols(); ++i) w.f32()[row * w.cols() + i] *= scales[static_cast<size_t>(i)];
    }
    SeenInputs& seen = *matrices_.at(scaling.matrices.front()).seen;  // of one site, whose input it is
    const int64_t in = seen.hessian.cols();
    for (int64_t i = 0; i < in; ++i)
      for (int64_t j = 0; j < in; ++j) seen.hessian.f32()[i * in + j] /= scales[static_cast<size_t>(i)] * scales[static_cast<size_t>(j)];
    if (!scaling.norm) {
      AwqMatrix& feeds = matrices_.at(scaling.feeds);
      for (int64_t row = 0; row < feeds.f32.rows(); ++row)
        for (int64_t i = 0; i < feeds.f32.cols(); ++i) feeds.f32.f32()[row * feeds.f32.cols() + i] /= scales[static_cast<size_t>(row)];
      for (size_t row = 0; row < feeds.bias.size(); ++row) feeds.bias[row] /= scales[row];
      return;
    }
    std::vector<float> weight = scaling.norm->weight.values;
    const float offset = scaling.norm->config.offset;
    for (size_t i = 0; i < weight.size(); ++i) weight[i] = (weight[i] + offset) / scales[i] - offset;
    add_vector(scaling.norm->weight.stored, weight);
    if (scaling.norm->bias.values.empty()) return;
    std::vector<float> bias = scaling.norm->bias.values;
    for (size_t i = 0; i < bias.size(); ++i) bias[i] /= scales[i];
    add_vector(scaling.norm->bias.stored, bias);
  }

  // In the type that the model's file has it in.
  void add_vector(const std::string& name, const std::vector<float>& values) {
    const TensorInfo* info = model_.source->find(name);
    if (!info || info->shape != std::vector<int64_t>{static_cast<int64_t>(values.size())})
      no_awq("the model has no tensor " + name + " of one dimension");
    const Buffer memory(Tensor(nullptr, info->dtype, info->shape).bytes());
    convert(memory.data(), info->dtype, values.data(), Dtype::F32, static_cast<int64_t>(values.size()));
    what_.spool.add({name, info->dtype, info->shape}, memory.data());
  }

  const CalibratedModel& what_;
  Model& model_;
  std::map<int64_t, SeenInputs> seen_;
  std::map<std::string, AwqMatrix> matrices_;
  std::map<std::string, Norm*> norms_;
  bool values_normed_ = false;
};

}  // namespace

CalibrationReport awq_model(const CalibratedModel& what) {
  check_quantisable(what.model, what.scheme, "awq");
  LayerWalk walk(what.model, what.texts);
  CalibrationReport report;
  report.tokens = walk.tokens();
  for (size_t layer = 0; layer < what.model.layers.size(); ++layer) {
    if (what.keep_going && !what.keep_going()) throw Stopped();
    if (what.started) what.started(static_cast<int64_t>(layer));
    AwqLayer(what, walk, static_cast<int64_t>(layer)).quantise(report);
    check_mapped_files();
  }
  return report;
}

Json awq_config(const GroupScheme& scheme) {
  return {{"bits", scheme.bits}, {"group_size", scheme.group_size}, {"zero_point", true},
          {"version", "gemm"},   {"quant_method", "awq"},           {"modules_to_not_convert", nullptr}};
}

}  // namespace loraine
