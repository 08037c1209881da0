// The reference is loaded as a model for answers is: several adapters are on together.
#include "loraine/train/evaluation/reference_model.h"

#include <fmt/format.h>

#include "loraine/adapters/attach.h"
#include "loraine/core/error.h"
#include "loraine/io/model_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"

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

}  // namespace loraine
