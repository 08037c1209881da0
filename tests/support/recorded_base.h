// The linear layers of a recorded tiny model, for tests of what starts from the base's values.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/open_tensors.h"
#include "loraine/io/tensors/tensor_source.h"
#include "loraine/quant/weight.h"

namespace loraine {

struct RecordedBase {
  std::unique_ptr<TensorSource> source;  // keeps what the weights point to
  std::vector<Weight> weights;           // of one part each, mapped, in the order of the file

  explicit RecordedBase(const std::string& folder) : source(open_tensor_source(folder)) {
    const std::string end = ".weight";
    for (const TensorInfo& info : source->tensors()) {
      if (!info.name.ends_with("_proj" + end)) continue;
      WeightPart part;
      part.name = info.name.substr(0, info.name.size() - end.size());
      part.weight = source->map(info);
      weights.emplace_back().parts.push_back(std::move(part));
    }
  }
  std::vector<const Weight*> sites() const { return pointers<const Weight>(weights); }
  std::vector<Weight*> sites_to_change() { return pointers<Weight>(weights); }

 private:
  template <class W, class Weights>
  static std::vector<W*> pointers(Weights& weights) {
    std::vector<W*> out;
    for (W& weight : weights) out.push_back(&weight);
    return out;
  }
};

}  // namespace loraine
