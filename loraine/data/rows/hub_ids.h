// A data set of hubs, and how it is got. Filled in by whoever knows hubs (train/config/data_options); data/ opens what lies on this
// machine.
#pragma once
#include <functional>
#include <string>

namespace loraine {

// Its id at each hub; empty where it has none. A plain name stands for both.
struct HubIds {
  std::string hugging_face, modelscope;
};

// The folder of its repository on this machine, fetched if need be, or empty: there is none.
using FindRepository = std::function<std::string(const HubIds&)>;

}  // namespace loraine
