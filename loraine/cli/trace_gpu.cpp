// The decoder with a backward where gradients are wanted, else the one that is asked.
#include "loraine/cli/trace_gpu.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/model/gpu/gpu_answers.h"

namespace loraine {
namespace {

constexpr int64_t kTracedRows = 1024;  // whose logits are there at a time

template <class Decoder>
void logits_of_all(Decoder& decoder, const TraceOnGpu& trace, const Tensor& logits) {
  const int64_t V = logits.cols();
  std::vector<float> part(static_cast<size_t>(decoder.logit_rows() * V));
  for (int64_t first = 0; first < trace.batch.rows(); first += decoder.logit_rows()) {
    const int64_t count = std::min(decoder.logit_rows(), trace.batch.rows() - first);
    std::vector<int64_t> rows(static_cast<size_t>(count));
    std::iota(rows.begin(), rows.end(), first);
    decoder.logits(Tensor(part.data(), Dtype::F32, {count, V}), rows);
    for (int64_t t = 0; t < count; ++t)
      std::memcpy(logits.row_range(trace.places[static_cast<size_t>(first + t)], 1).data, part.data() + t * V,
                  static_cast<size_t>(V) * sizeof(float));
  }
}

double sum_of(const GpuLosses& losses) { return std::accumulate(losses.losses.begin(), losses.losses.end(), 0.0); }

}  // namespace

double trace_on_gpu(const TraceOnGpu& trace, const Tensor& logits) {
  const int64_t rows = trace.batch.rows();
  GpuBase& gpu = trace.gpu;
  if (!trace.gradients) {
    int64_t widest = 1;
    for (const AdapterSet* set : trace.sets) widest = std::max(widest, rank_columns(*set));
    GpuAnswers answers(gpu, rows, widest, std::min(rows, kTracedRows));
    answers.forward(trace.batch, trace.sets);
    logits_of_all(answers, trace, logits);
    return sum_of(answers.decoder().losses({}, 0, false));
  }
  const std::vector<Parameter> parameters = trace.sets[0]->parameters();
  const auto host = [&](Tensor Parameter::*which) {
    return [&parameters, which](const std::string& name) {
      const auto found = std::ranges::find(parameters, name, &Parameter::name);
      if (found == parameters.end()) throw Error(ErrorKind::internal, "the GPU has a parameter that the adapter has not: " + name);
      return (*found).*which;
    };
  };
  GpuAdapter adapter(*trace.sets[0], gpu.stream);
  adapter.put(GpuAdapter::kValues, host(&Parameter::value));
  GpuDecoder decoder(gpu.model, adapter, rows, gpu.stream);
  decoder.forward({}, trace.batch, false);
  logits_of_all(decoder, trace, logits);
  const double sum = sum_of(decoder.losses({}, trace.grad_scale, false));
  decoder.backward();
  adapter.fetch(GpuAdapter::kGradients, host(&Parameter::gradient));
  return sum;
}

}  // namespace loraine
