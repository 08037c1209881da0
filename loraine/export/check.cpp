// Tensors against sums in double, row by row; logits of three models that should be one.
#include "loraine/export/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/dense.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/model/decoder.h"
#include "loraine/model/finite.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

// Half of the distance from |x| to the next value of the type, for F32, F16 and BF16.
struct HalfStep {
  int64_t least, digits;  // biased exponent in double of the smallest normal value; bits of the mantissa
  explicit HalfStep(Dtype type)
      : least(1023 - (type == Dtype::F16 ? 14 : 126)),
        digits(type == Dtype::F32   ? 23
               : type == Dtype::F16 ? 10
                                    : 7) {}
  double at(double x) const {
    const int64_t exponent = (std::bit_cast<int64_t>(x) >> 52) & 0x7ff;
    return std::bit_cast<double>((std::max(exponent, least) - digits - 1) << 52);
  }
};

// How many of `written` are not `exact` rounded once; `error`: of the sum that was rounded. Where the sum is no finite number, nothing is.
int64_t count_wrong(const std::vector<double>& exact, const std::vector<float>& written, HalfStep half, double error) {
  int64_t wrong = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double apart = std::abs(static_cast<double>(written[i]) - exact[i]);
    wrong += !(apart <= half.at(exact[i]) + error);
  }
  return wrong;
}

bool all_finite(const std::vector<double>& row) {
  return std::ranges::all_of(row, [](double x) { return std::isfinite(x); });
}

// A row that the sum or the type made infinite: of inputs that are finite themselves.
std::string too_large(const MergedTensor& tensor, const std::vector<double>& exact, const std::vector<float>& written) {
  for (size_t i = 0; i < exact.size(); ++i)
    if (std::isfinite(exact[i]) && !std::isfinite(written[i]))
      return fmt::format("holds {:.6g}, which {} cannot", exact[i], name_of(tensor.type));
  return "";
}

struct Found {
  std::atomic<int64_t> wrong = 0;
  std::string too_large;
};

// A bias times its factors; gives how far the product in f32 may lie from it.
double scale_exactly(std::vector<double>& bias, const float* factors) {
  double largest = 0;
  for (size_t i = 0; i < bias.size(); ++i) largest = std::max(largest, std::abs(bias[i] *= static_cast<double>(factors[i])));
  return 0x1p-23 * largest;
}

// A computed tensor against the sums in double.
void check_computed(const TensorSource& base, const MergedTensor& tensor, const std::string& name, const Tensor& written) {
  const Tensor shape(nullptr, Dtype::F32, tensor.info->shape);
  const int64_t rows = shape.rank < 2 ? 1 : shape.numel() / std::max<int64_t>(1, tensor.info->shape.back()),  // a vector: one
      cols = shape.numel() / std::max<int64_t>(1, rows);
  const Buffer memory(shape.bytes());
  const Tensor f32(memory.data(), Dtype::F32, {rows, cols});
  read_base(base, tensor, Tensor(memory.data(), Dtype::F32, tensor.info->shape));
  const MergeRow add = tensor.adapter ? tensor.adapter->exact_merge(tensor.part) : nullptr;
  const MergeRow add_embedding = tensor.embedding ? tensor.embedding->exact_merge() : nullptr;
  const MergeRow add_experts =
      tensor.experts ? tensor.experts->exact_merge(tensor.expert, tensor.first, tensor.columns, tensor.transposed) : nullptr;
  const HalfStep half(tensor.type);
  const size_t row_bytes = static_cast<size_t>(cols) * size_of(tensor.type);
  Found found;
  constexpr int64_t kRows = 16;  // that a thread looks at in turn
  parallel_for((rows + kRows - 1) / kRows, [&](int64_t piece) {
    std::vector<double> exact(static_cast<size_t>(cols));
    std::vector<float> stored(static_cast<size_t>(cols));
    std::vector<char> bytes(row_bytes);  // a file lays its tensors where they come
    for (int64_t row = piece * kRows; row < std::min(rows, (piece + 1) * kRows); ++row) {
      std::copy_n(f32.f32() + row * cols, cols, exact.data());
      std::memcpy(bytes.data(), static_cast<const char*>(written.data) + static_cast<size_t>(row) * row_bytes, row_bytes);
      convert(stored.data(), Dtype::F32, bytes.data(), tensor.type, cols);
      double error = 0;
      if (add) error += add(exact, row);
      if (tensor.bias_factors) error += scale_exactly(exact, tensor.bias_factors);
      if (add_embedding) error += add_embedding(exact, row);
      if (add_experts) error += add_experts(exact, row);
      const int64_t wrong = count_wrong(exact, stored, half, error);
      if (wrong == 0) continue;
      const std::string large = too_large(tensor, exact, stored);
      if (large.empty() && !all_finite(exact)) continue;  // the base's own, which is reported with the logits
      found.wrong += wrong;
      if (!large.empty())
#pragma omp critical(loraine_check_computed)
        found.too_large = large;
    }
  });
  if (!found.too_large.empty())
    throw Error(ErrorKind::numeric, fmt::format("{}: the merged tensor {}", name, found.too_large), "set infer_dtype: bfloat16 or float32");
  if (found.wrong > 0)
    throw Error(ErrorKind::internal,
                fmt::format("{}: {} of its {} values are not the sum of base and adapter, rounded once to {}", name, found.wrong.load(),
                            shape.numel(), name_of(tensor.type)),
                "this is a bug in loraine, please report it");
}

void check_stored(const WeightToWrite& weight, const Tensor& read_back) {
  const char* data = static_cast<const char*>(read_back.data);
  size_t at = 0;
  bool same = true;
  weight.write([&](const void* bytes, size_t count) {
    same = same && at + count <= read_back.bytes() && std::memcmp(data + at, bytes, count) == 0;
    at += count;
  });
  if (!same || at != read_back.bytes())
    throw Error(ErrorKind::io, weight.entry.name + ": read back, it is not what was written",
                "look at the disk and the memory of the machine");
}

}  // namespace

void check_written(const Merge& merge, const std::string& folder, const std::function<bool()>& keep_going) {
  const auto source = open_tensor_source(folder);
  if (source->tensors().size() != merge.weights.size())
    throw Error(ErrorKind::io,
                fmt::format("{}: {} tensors were written, and {} are there", folder, merge.weights.size(), source->tensors().size()),
                "does another program write to it?");
  for (const WeightToWrite& weight : merge.weights) {
    if (keep_going && !keep_going()) throw Stopped();
    const TensorInfo* info = source->find(weight.entry.name);
    if (!info || info->dtype != weight.entry.dtype || info->shape != weight.entry.shape)
      throw Error(ErrorKind::io, fmt::format("{}: {} is missing or another than was written", folder, weight.entry.name),
                  "does another program write to it?");
    const Tensor mapped = source->map(*info);
    if (!mapped.data && mapped.numel() > 0) throw Error(ErrorKind::internal, weight.entry.name + ": cannot be mapped");
    const auto computed = merge.computed.find(weight.entry.name);
    if (computed == merge.computed.end()) {
      check_stored(weight, mapped);
    } else if (is_turned(merge.model.config.names.turned, info->name)) {
      const Buffer memory(mapped.bytes());
      const Tensor as_summed(memory.data(), mapped.dtype, {mapped.cols(), mapped.rows()});
      turn(as_summed, mapped);
      check_computed(*merge.model.source, computed->second, weight.entry.name, as_summed);
    } else {
      check_computed(*merge.model.source, computed->second, weight.entry.name, mapped);
    }
    release_pages(mapped.data, mapped.bytes());
    check_mapped_files();
  }
}

namespace {

// What is merged as an adapter set that has the sums in f32 in the base's place, each site's for the time of its product.
class MergedInF32 {
 public:
  explicit MergedInF32(const Merge& merge) : merge_(merge) {
    const Model& model = merge.model;
    const std::vector<const Weight*> sites = model.sites();
    set_.sites.resize(sites.size());
    set_.head_site = model.head.index;
    if (merge.adapter) set_.experts = merge.adapter->experts;  // as they are: their sums would be as large as the model
    auto dense = std::make_shared<DenseSet>();
    dense->sites.resize(sites.size());
    const DenseSet* own = merge.adapter ? merge.adapter->dense.get() : nullptr;
    if (own) dense->embedding = own->embedding;
    if (own) dense->vectors = own->vectors;
    else dense->vectors.resize(model.vectors().size());
    if (own) dense->experts = own->experts;
    else dense->experts.resize(model.experts().size());
    if (const MergedTensor* table = find(model.config.names.in_files(model.config.names.embedding) + ".weight"); table && table->embedding)
      dense->embedding.value = whole(*table);
    for (size_t site = 0; site < sites.size(); ++site)
      view(dense->sites[site].weight, *sites[site], own ? &own->sites[site].weight : nullptr);
    for (WeightPart& part : dense->sites.back().weight.parts)
      if (const MergedTensor* head = find(part.stored + ".weight"); head && head->adapter) part.weight = whole(*head);
    for (DenseSite& site : dense->sites)
      for (WeightPart& part : site.weight.parts)
        if (const MergedTensor* bias = find(part.stored + ".bias"); bias && bias->dense.data) part.bias = bias->dense.f32();
    set_.dense = std::move(dense);
  }
  const AdapterSet& set() const { return set_; }

  // Lays the sums of a site into its views.
  void prepare(int64_t site) {
    std::vector<WeightPart>& parts = set_.dense->sites[static_cast<size_t>(site)].weight.parts;
    size_t bytes = 0;
    for (const WeightPart& part : parts)
      if (find(part.stored + ".weight")) bytes += static_cast<size_t>(part.weight.numel() + part.weight.rows()) * sizeof(float);
    if (memory_.bytes() < bytes) memory_ = Buffer(bytes);
    float* next = static_cast<float*>(memory_.data());
    for (WeightPart& part : parts)
      if (const MergedTensor* tensor = find(part.stored + ".weight")) {
        part.weight = Tensor(next, Dtype::F32, {part.weight.rows(), part.weight.cols()});
        next += part.weight.numel();
        merge_in_f32(*merge_.model.source, *tensor, part.weight);
        if (const MergedTensor* bias = find(part.stored + ".bias"); bias && bias->bias_factors) {
          const Tensor sum(next, Dtype::F32, {part.weight.rows()});
          next += sum.numel();
          merge_in_f32(*merge_.model.source, *bias, sum);
          part.bias = sum.f32();
        }
      }
  }

 private:
  const MergedTensor* find(const std::string& name) const {
    const auto at = merge_.computed.find(name);
    return at != merge_.computed.end() && at->second.merged() ? &at->second : nullptr;
  }
  static void view(Weight& weight, const Weight& base, const Weight* own) {
    for (const WeightPart& part : own && !own->parts.empty() ? own->parts : base.parts) {
      WeightPart& to = weight.parts.emplace_back();
      to.name = part.name;
      to.stored = part.stored;
      to.weight = part.weight;
      to.bias = part.bias;
    }
  }
  Tensor whole(const MergedTensor& tensor) {
    const Tensor shape(nullptr, Dtype::F32, tensor.info->shape);
    kept_.emplace_back(shape.bytes());
    const Tensor out(kept_.back().data(), Dtype::F32, tensor.info->shape);
    merge_in_f32(*merge_.model.source, tensor, out);
    return out;
  }
  const Merge& merge_;
  AdapterSet set_;
  Buffer memory_;
  std::vector<Buffer> kept_;
};

// One of the models that are compared: its hidden states, then logits for a few of the rows.
class Hidden {
 public:
  Hidden(const Model& model, const AdapterSet* set, Batch batch, const BeforeSite& before_site = {}) : model_(model), set_(set) {
    const int64_t rows = batch.rows();
    std::vector<const AdapterSet*> sets;
    if (set) {
      sets = {set};
      batch.adapter_rows = {{0, rows, 0}};
    }
    Arena dry;
    plan_activations(model, rows, false, sets, dry);
    memory_ = Arena(dry.peak());
    scratch_ = Arena(scratch_bytes(model, rows, false, sets) + head_scratch_bytes(model, rows, set));
    Activations activations = plan_activations(model, rows, false, sets, memory_);
    Pass pass{&activations, nullptr, sets, &scratch_, false, before_site};
    Context ctx;
    decoder_forward(ctx, model, batch, pass);
    hidden_ = activations.hidden;
  }
  void logits(const Tensor& out, int64_t first) {
    Context ctx;
    head_logits(ctx, model_, out, hidden_.row_range(first, out.rows()), set_, scratch_);
  }

 private:
  const Model& model_;
  const AdapterSet* set_;
  Arena memory_, scratch_;
  Tensor hidden_;
};

// That of one row: mean_kl its KL, same_first 0 or 1.
Divergence of_row(const float* first, const float* second, int64_t n) {
  Divergence one;
  const auto log_sum = [n](const float* x, float most) {
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += std::exp(static_cast<double>(x[i]) - static_cast<double>(most));
    return std::log(total) + static_cast<double>(most);
  };
  for (int64_t i = 0; i < n; ++i) one.finite = one.finite && std::isfinite(first[i]) && std::isfinite(second[i]);
  const float *top = std::max_element(first, first + n), *other = std::max_element(second, second + n);
  const double norm = log_sum(first, *top), other_norm = log_sum(second, *other);
  for (int64_t i = 0; i < n; ++i) {
    const double log_p = static_cast<double>(first[i]) - norm, log_q = static_cast<double>(second[i]) - other_norm;
    one.mean_kl += std::exp(log_p) * (log_p - log_q);
  }
  one.same_first = top - first == other - second;
  return one;
}

void add_row(Divergence& sum, const Divergence& row) {
  sum.mean_kl += row.mean_kl;
  sum.same_first += row.same_first;
  sum.finite = sum.finite && row.finite;
}

}  // namespace

int64_t compared_tokens(const Model& model) {
  return std::clamp<int64_t>(int64_t{20'000'000'000} / std::max<int64_t>(1, model.parameter_count()), 48, 256);
}

LogitsReport compare_logits(const Merge& merge, const std::string& folder, const std::vector<std::vector<int32_t>>& texts) {
  const Model& model = merge.model;
  ModelFiles files = open_model_files(folder);
  Model written = load_model(files, {model.use_bf16});
  written.read_once = true;
  Batch batch;
  for (const std::vector<int32_t>& ids : texts) {
    const int64_t start = batch.rows(), length = static_cast<int64_t>(ids.size());
    if (length == 0) continue;
    batch.tokens.insert(batch.tokens.end(), ids.begin(), ids.end());
    for (int64_t t = 0; t < length; ++t) batch.positions.push_back(static_cast<int32_t>(t));
    batch.sequences.push_back({start, length, start, length});
  }
  std::vector<Hidden> models;
  models.emplace_back(model, merge.adapter, batch);
  models.emplace_back(written, nullptr, batch);
  std::optional<MergedInF32> exact;
  const bool rounded = std::ranges::any_of(merge.computed, [](const auto& tensor) { return tensor.second.type != Dtype::F32; });
  if (rounded) {
    exact.emplace(merge);
    models.emplace_back(model, &exact->set(), batch, [&](int64_t site, const Tensor&) { exact->prepare(site); });
  }
  LogitsReport report;
  report.tokens = batch.rows();
  if (exact) report.rounding.emplace();
  constexpr int64_t kRows = 64;  // the head is read once for so many
  const int64_t vocab = model.config.vocab_size;
  std::vector<Buffer> memory;
  for (size_t i = 0; i < models.size(); ++i) memory.emplace_back(static_cast<size_t>(kRows * vocab) * sizeof(float));
  for (int64_t first = 0; first < batch.rows(); first += kRows) {
    const int64_t rows = std::min(kRows, batch.rows() - first);
    for (size_t i = 0; i < models.size(); ++i) models[i].logits(Tensor(memory[i].data(), Dtype::F32, {rows, vocab}), first);
    const auto row = [&](size_t i, int64_t r) { return static_cast<const float*>(memory[i].data()) + r * vocab; };
    std::vector<Divergence> apart(static_cast<size_t>(2 * kRows));  // [rows][merged, rounding]
    parallel_for(rows * (exact ? 2 : 1), [&](int64_t i) {
      const bool rounding = i >= rows;
      const int64_t r = i % rows;
      apart[static_cast<size_t>(2 * r + rounding)] = of_row(row(rounding ? 2 : 0, r), row(1, r), vocab);
    });
    for (int64_t r = 0; r < rows; ++r) {
      add_row(report.merged, apart[static_cast<size_t>(2 * r)]);
      if (exact) add_row(*report.rounding, apart[static_cast<size_t>(2 * r + 1)]);
    }
  }
  check_mapped_files();
  for (Divergence* d : {&report.merged, report.rounding ? &*report.rounding : nullptr})
    if (d) {
      d->mean_kl = std::max(0.0, d->mean_kl / static_cast<double>(batch.rows()));
      d->same_first /= static_cast<double>(batch.rows());
    }
  if (!report.merged.finite) report.not_finite = not_finite_text(written);
  return report;
}

}  // namespace loraine
