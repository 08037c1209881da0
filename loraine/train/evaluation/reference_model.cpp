// The reference is loaded as a model for answers is: several adapters are on together.
#include "loraine/train/evaluation/reference_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/adapters/attach.h"
#include "loraine/core/error.h"
#include "loraine/io/model_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/model/load.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/gpu/gpu_losses.h"

namespace loraine {

ReferenceModel::ReferenceModel(const TrainConfig& config, const Model& policy) {
  TrainConfig c = config;
  c.model_name_or_path = config.ref_model.value();
  c.adapter_name_or_path = config.ref_model_adapters;
  c.quantization_bit = config.ref_model_quantization_bit;
  try {
    ModelFiles files = open_model_files(c.model_name_or_path, hub_access(c));
    model_ = load_model(files, load_options(c));
    std::vector<AdapterSet> sets;
    for (const FoundPlace& place : adapter_places(c, kSeveralAdapters)) sets.push_back(load_adapter(model_, place.path));
    if (sets.size() == 1) {
      adapters_ = std::move(sets.front());
    } else if (!sets.empty()) {
      std::vector<const AdapterSet*> all;
      for (const AdapterSet& set : sets) all.push_back(&set);
      adapters_ = combine_adapters(all, model_.sites());
    }
  } catch (const Error& error) { throw Error(error.kind, std::string("ref_model: ") + error.what(), error.hint); }
  if (model_.config.vocab_size != policy.config.vocab_size)
    throw Error(
        ErrorKind::bad_data,
        fmt::format("ref_model: {} has a vocabulary of {}, and the model that trains one of {}: their log-probabilities do not compare",
                    c.model_name_or_path, model_.config.vocab_size, policy.config.vocab_size),
        "give a reference with the same tokenizer");
}

ReferenceModel::~ReferenceModel() = default;

namespace {

constexpr int64_t kLogitRows = 256;  // at a time

int64_t columns_of(const AdapterSet* set) {
  GpuStream none;
  return set ? GpuAdapter(*set, none, true).rank_columns() : 1;
}

void check_gpu_code(const Model& model, const AdapterSet* set) {
  std::string lacks = gpu_lacks(model.config);
  if (lacks.empty() && set) lacks = gpu_lacks(*set, false);
  if (!lacks.empty())
    throw Error(ErrorKind::unsupported, fmt::format("device: cuda: ref_model: {} has no GPU code", lacks), "Run on the CPU (device: cpu).");
}

}  // namespace

size_t ReferenceModel::gpu_bytes(int64_t rows) const {
  check_gpu_code(model_, set());
  GpuStream none;
  const GpuModel shapes = GpuModel::shapes(model_);
  const GpuAskedShape asked{rows, columns_of(set()), std::min(rows, kLogitRows)};
  size_t bytes = shapes.bytes() + GpuDecoder::bytes(shapes, asked);
  if (!set()) return bytes;
  const GpuAdapter adapter(*set(), none, true);  // with gradients and moments, which it has not there
  return bytes + adapter.bytes() / 4 + GpuDecoder::room_bytes(shapes, adapter, rows);
}

void ReferenceModel::plan_pass_on_gpu(int64_t rows) {
  check_gpu_code(model_, set());
  gpu_ = std::make_unique<GpuBase>(model_);
  answers_ = std::make_unique<GpuAnswers>(*gpu_, rows, columns_of(set()), std::min(rows, kLogitRows));
  pass_ = std::make_unique<SidePass>(
      model_, [this](const Batch& batch, bool adapted) { return losses_on_gpu(*answers_, batch, adapted ? set() : nullptr); });
}

}  // namespace loraine
