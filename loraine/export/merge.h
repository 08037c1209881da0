// Merging an adapter into its base: W + s B A in f32 with one rounding, written as a Hugging Face folder, then checked. Called by loraine
// export.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "loraine/adapters/adapter.h"
#include "loraine/io/model_files.h"
#include "loraine/io/weight_files.h"
#include "loraine/model/model.h"

namespace loraine {

struct MergeReport {
  int64_t tensors = 0, merged = 0, shards = 0;
  double largest_difference = 0, largest_logit = 0;  // of the check: merged against base + adapter
};

// Writes the weights (or shards with an index) into `folder`, one tensor at a time. adapter may be nullptr. written_as: the type of all
// that is not in codes; none: as it is stored. A tied head is not stored twice, unless the adapter makes it another tensor than the
// embedding (model/attach.h, unties). keep_going is asked before each tensor that is not written as it is stored; false: Stopped is thrown,
// and the shard in work does not appear.
MergeReport merge_to_folder(const Model& model, const AdapterSet* adapter, const std::string& folder, const WeightFormat& format,
                            std::optional<Dtype> written_as = {}, const std::function<bool()>& keep_going = {});

// Logits of the written model against base + adapter on fixed prompts.
void check_merge(const Model& model, const AdapterSet* adapter, const std::string& folder, MergeReport& report);

}  // namespace loraine
