// The merged model as one GGUF file, and a look at what was written. Called by loraine export, and by training that
// goes through the codes of what will be written (train/quant_aware).
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "loraine/export/merge.h"
#include "loraine/io/gguf/gguf_mixture.h"
#include "loraine/io/gguf/gguf_output_keys.h"
#include "loraine/io/gguf/importance_matrix.h"

namespace loraine {

struct GgufText {
  std::vector<int32_t> stop;  // ids that end an answer
  std::string name;           // general.name
};

// What the file will hold. Points to the merge.
struct GgufPlan {
  const Merge* merge = nullptr;
  const GgufRecipe* recipe = nullptr;
  GgufModelKeys keys;
  std::vector<GgufOutput> outputs;
  std::vector<GgufEntry> entries;  // of the made tensors, then of the outputs
  std::map<std::string, const WeightToWrite*> weights;
  const ImportanceMatrix* importance = nullptr;
};

// Throws unsupported for what a GGUF is not written of, naming it. with_importance: as llama-quantize has types of tensors then.
GgufPlan plan_gguf(const Merge& merge, const ModelFiles& files, const GgufText& text, const GgufRecipe& recipe,
                   bool with_importance = false);
// Blocks are made with the matrix from now on, and the file's keys name it. Throws bad_data where it is of another model.
void use_importance(GgufPlan& plan, const ImportanceMatrix& matrix);
// The matrix of the merged model: what the inputs of its layers' matrices are for these texts, each a chunk of its own. Throws unsupported
// for experts.
ImportanceMatrix importance_of(const GgufPlan& plan, const std::vector<std::vector<int32_t>>& chunks,
                               const std::function<bool()>& keep_going);

// Every tensor is merged and rounded to the type that a merged folder would have, then to the file's: what llama.cpp's converter and
// llama-quantize make of such a folder. One tensor is in memory at a time. Gives the path, or those of its parts (stream_gguf_parts).
std::vector<std::string> write_gguf(const GgufPlan& plan, const std::string& path, uint64_t part_bytes = UINT64_MAX,
                                    const std::function<bool()>& keep_going = {});

struct GgufTypeReport {
  int64_t tensors = 0;
  double worst = 0;  // largest relative error of a tensor: the root of Σ (read − merged)² / Σ merged²
  std::string worst_name;
};

// Reads the file back as a model and holds every tensor against base + adapter; gives the errors by type. Throws internal for a tensor that
// is further from it than its type explains.
std::map<std::string, GgufTypeReport> check_gguf(const GgufPlan& plan, const std::string& path,
                                                 const std::function<bool()>& keep_going = {});

// What the type of most matrices may do to the mean KL of a model's answers, in nats; more is an error.
double tolerated_kl(const GgufRecipe& recipe);

// A row of values in a type of the file: in blocks, whose errors count as `importance` says (quantise), or converted.
void store_gguf_row(void* out, Dtype type, const float* values, int64_t cols, const float* importance = nullptr);

// The merged tensor in the type of the merge: [rows, …] as in a folder.
struct MergedBytes {
  Buffer memory;
  Tensor tensor;
};
MergedBytes merged_bytes(const WeightToWrite& weight);

}  // namespace loraine
