// Merging an adapter into its base: W + s B A in f32 with one rounding, written as a Hugging Face folder. Called by loraine export; check.h
// looks at what was written.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/io/model_files.h"
#include "loraine/io/weight_files.h"
#include "loraine/model/model.h"

namespace loraine {

// A tensor that is computed: a whole one in the base's place, then what is added, then the rounding to `type`.
struct MergedTensor {
  const TensorInfo* info = nullptr;  // of the base's
  Dtype type = Dtype::F32;           // as written
  Tensor dense;                      // data == nullptr: the base's own
  const Adapter* adapter = nullptr;
  int part = 0;
  const float* bias_factors = nullptr;  // of a bias: what it is multiplied with
  const EmbeddingLora* embedding = nullptr;
  const ExpertLora* experts = nullptr;          // of one expert's matrix, or of those of all [E, …]
  int64_t expert = -1, first = 0, columns = 0;  // which expert, or −1; of its product, the columns that the matrix gives
  bool transposed = false;                      // as the file holds it
  bool merged() const { return dense.data || adapter || bias_factors || embedding || experts; }  // otherwise only the type is another
};

// What becomes of a model: all tensors that are written, and those among them that are computed, by name. Points to model and adapter.
struct Merge {
  const Model& model;
  const AdapterSet* adapter = nullptr;
  std::vector<WeightToWrite> weights;
  std::map<std::string, MergedTensor> computed;
  std::vector<Buffer> biases = {};  // sums that tensors of `computed` are
  int64_t merged() const;
};

// adapter may be nullptr. written_as: the type of all that is not in codes; none: as it is stored. A tied head is not stored twice, unless
// the adapter makes it another tensor than the embedding (model/attach.h, unties).
std::unique_ptr<Merge> plan_merge(const Model& model, const AdapterSet* adapter, std::optional<Dtype> written_as = {});

// [out, in] of a computed tensor in F32, before the rounding: first the base's, then merged.
void read_base(const TensorSource& source, const MergedTensor& tensor, const Tensor& f32);
void merge_in_f32(const TensorSource& source, const MergedTensor& tensor, const Tensor& f32);

// Writes the weights (or shards with an index) into `folder`, one tensor at a time; gives the number of files. keep_going is asked before
// each tensor that is computed; false: Stopped is thrown, and the shard in work does not appear.
int64_t write_merge(const Merge& merge, const std::string& folder, const WeightFormat& format,
                    const std::function<bool()>& keep_going = {});

}  // namespace loraine
