// The importance matrix of a merged model, and a plan that makes its blocks with one.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/core/stopped.h"
#include "loraine/export/gguf.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/model/decoder.h"

namespace loraine {
namespace {

constexpr int64_t kImportanceTokens = 2048;  // of a batch at most

// Σ x² over rows, in double: [in].
void add_squares(std::vector<double>& sums, const Tensor& x) {
  sums.resize(static_cast<size_t>(x.cols()), 0);
  constexpr int64_t kColumns = 256;  // that a thread adds up in turn
  parallel_for((x.cols() + kColumns - 1) / kColumns, [&](int64_t piece) {
    const int64_t last = std::min(x.cols(), (piece + 1) * kColumns);
    for (int64_t row = 0; row < x.rows(); ++row) {
      const float* at = x.f32() + row * x.row_stride;
      for (int64_t i = piece * kColumns; i < last; ++i)
        sums[static_cast<size_t>(i)] += static_cast<double>(at[i]) * static_cast<double>(at[i]);
    }
  });
}

}  // namespace

void use_importance(GgufPlan& plan, const ImportanceMatrix& matrix) {
  bool any = false;
  for (const GgufOutput& output : plan.outputs) {
    const int64_t rank = static_cast<int64_t>(output.shape.size());
    if (rank >= 2) any = !matrix.weights(output.name, 0, rank == 3 ? output.shape[0] : 1, output.shape.back()).empty() || any;
  }
  if (!any) throw Error(ErrorKind::bad_data, matrix.file + ": names none of this model's tensors", "compute one of this model");
  plan.importance = &matrix;
  GgufMetadata& metadata = plan.keys.metadata;
  metadata.put_text("quantize.imatrix.file", matrix.file);
  if (!matrix.datasets.empty()) metadata.put_text("quantize.imatrix.dataset", matrix.datasets.front());
  metadata.put_unsigned("quantize.imatrix.entries_count", matrix.entries.size());
  if (matrix.chunks > 0) metadata.put_unsigned("quantize.imatrix.chunks_count", static_cast<uint64_t>(matrix.chunks));
}

ImportanceMatrix importance_of(const GgufPlan& plan, const std::vector<std::vector<int32_t>>& chunks,
                               const std::function<bool()>& keep_going) {
  const Merge& merge = *plan.merge;
  const Model& model = merge.model;
  if (!model.experts().empty())
    throw Error(ErrorKind::unsupported, "the model has experts, of which no importance matrix is computed",
                "compute one with llama-imatrix, and give it as gguf_imatrix");
  if (model.use_bf16) throw Error(ErrorKind::internal, "an importance matrix is computed in F32");
  const std::vector<const Weight*> sites = model.layer_sites();
  std::vector<std::vector<double>> sums(sites.size());
  int64_t most = 0, tokens = 0;
  for (const std::vector<int32_t>& chunk : chunks) most = std::max(most, static_cast<int64_t>(chunk.size()));
  const int64_t each = std::max<int64_t>(1, kImportanceTokens / std::max<int64_t>(1, most)), rows = each * most;
  std::vector<const AdapterSet*> sets;
  if (merge.adapter) sets = {merge.adapter};
  Arena dry;
  plan_activations(model, rows, false, sets, dry);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, rows, false, sets));
  Activations activations = plan_activations(model, rows, false, sets, memory);
  for (size_t first = 0; first < chunks.size(); first += static_cast<size_t>(each)) {
    if (keep_going && !keep_going()) throw Stopped();
    Batch batch;
    for (size_t i = first; i < std::min(chunks.size(), first + static_cast<size_t>(each)); ++i) {
      const int64_t start = batch.rows(), length = static_cast<int64_t>(chunks[i].size());
      batch.tokens.insert(batch.tokens.end(), chunks[i].begin(), chunks[i].end());
      for (int64_t t = 0; t < length; ++t) batch.positions.push_back(static_cast<int32_t>(t));
      batch.sequences.push_back({start, length, start, length});
    }
    tokens += batch.rows();
    if (merge.adapter) batch.adapter_rows = {{0, batch.rows(), 0}};
    Pass pass{&activations, nullptr, sets, &scratch, false};
    pass.before_site = [&](int64_t site, const Tensor& x) {
      if (site < static_cast<int64_t>(sites.size())) add_squares(sums[static_cast<size_t>(site)], x);
    };
    Context ctx;
    decoder_forward(ctx, model, batch, pass);
  }
  check_mapped_files();
  std::map<std::string, const std::vector<double>*> of_source;
  for (size_t site = 0; site < sites.size(); ++site)
    if (!sums[site].empty())
      for (const WeightPart& part : sites[site]->parts) of_source[part.stored + ".weight"] = &sums[site];
  ImportanceMatrix matrix;
  matrix.chunks = static_cast<int64_t>(chunks.size());
  for (const GgufOutput& output : plan.outputs) {
    const auto found = output.sources.size() == 1 ? of_source.find(output.sources.front()) : of_source.end();
    if (found == of_source.end() || output.shape.size() != 2) continue;
    ImportanceEntry& entry = matrix.entries[output.name];
    entry.sums.assign(found->second->begin(), found->second->end());
    entry.counts = {static_cast<float>(tokens)};
  }
  return matrix;
}

}  // namespace loraine
