// What was written, read by the reader that opens every GGUF, against the merge.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/export/gguf.h"
#include "loraine/io/tensors/read_elements.h"
#include "loraine/kernels/base/parallel.h"

namespace loraine {
namespace {

// The largest relative error of a tensor that a type explains. Types of blocks: several times that of normally distributed weights; f16 may
// also lose what is below its smallest numbers.
double tolerated_error(const std::string& type) {
  static const std::map<std::string, double> kTolerated = {{"F32", 1e-6},  {"F16", 1e-3},  {"BF16", 4e-3}, {"Q8_0", 0.02},
                                                           {"Q6_K", 0.06}, {"Q5_K", 0.12}, {"Q5_0", 0.12}, {"Q5_1", 0.12},
                                                           {"Q4_K", 0.25}, {"Q4_0", 0.25}, {"Q4_1", 0.25}};
  const auto at = kTolerated.find(type);
  return at == kTolerated.end() ? 0 : at->second;
}

struct SquaredSums {
  double apart = 0, merged = 0;
};

SquaredSums squared_sums(const float* read, const float* merged, int64_t n) {
  SquaredSums sums;
  for (int64_t i = 0; i < n; ++i) {
    const double a = static_cast<double>(read[i]), b = static_cast<double>(merged[i]);
    sums.apart += (a - b) * (a - b);
    sums.merged += b * b;
  }
  return sums;
}

}  // namespace

double tolerated_kl(const GgufRecipe& recipe) {
  switch (recipe.matrices) {
    case Dtype::F32: return 1e-5;
    case Dtype::F16: return 1e-3;
    case Dtype::BF16: return 1e-2;
    case Dtype::Q8_0: return 0.05;
    case Dtype::Q6_K: return 0.2;
    case Dtype::Q5_0:
    case Dtype::Q5_1:
    case Dtype::Q5_K: return 0.5;
    default: return 1.5;
  }
}

std::map<std::string, GgufTypeReport> check_gguf(const GgufPlan& plan, const std::string& path, const std::function<bool()>& keep_going) {
  const std::unique_ptr<TensorSource> source = open_gguf(path);
  std::map<std::string, GgufTypeReport> reports;
  for (const WeightToWrite& weight : plan.merge->weights) {
    if (keep_going && !keep_going()) throw Stopped();
    const std::string& name = weight.entry.name;
    if (name.ends_with(".rotary_emb.inv_freq")) continue;
    const TensorInfo* info = source->find(name);
    const Tensor shape(nullptr, Dtype::F32, weight.entry.shape);
    if (!info || element_count(*info) != shape.numel())
      throw Error(ErrorKind::internal, fmt::format("{}: read back, {} is missing or of another size", path, name),
                  "this is a bug in loraine, please report it");
    const MergedBytes merged = merged_bytes(weight);
    const Buffer read_memory(shape.bytes()), merged_memory(shape.bytes());
    source->read(*info, Tensor(read_memory.data(), Dtype::F32, std::span<const int64_t>(info->shape)));
    convert(merged_memory.data(), Dtype::F32, merged.tensor.data, merged.tensor.dtype, shape.numel());
    const SquaredSums sums =
        squared_sums(static_cast<const float*>(read_memory.data()), static_cast<const float*>(merged_memory.data()), shape.numel());
    const double error = sums.apart == 0 ? 0 : std::sqrt(sums.apart / std::max(sums.merged, 1e-30));
    const std::string type = info->stored_as.substr(0, info->stored_as.find(' '));
    if (!(error <= tolerated_error(type)))
      throw Error(ErrorKind::numeric,
                  fmt::format("{}: read back as {}, {} is {:.3g} of its size from base + adapter, and {:.3g} is what the type explains",
                              path, type, name, error, tolerated_error(type)),
                  "choose a gguf_type of more bits");
    GgufTypeReport& report = reports[type];
    ++report.tensors;
    if (error >= report.worst) report.worst = error, report.worst_name = name;
  }
  return reports;
}

}  // namespace loraine
