// What Gemma 3, 3n and 4 share.
#pragma once
#include <memory>
#include <vector>

#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/mixers/per_layer_input.h"

namespace loraine {

// The rotation of layers with a window: rope_parameters' own, or in files of transformers 4 rope_local_base_freq, without scaling.
std::shared_ptr<const Rope> sliding_rope(const Decoder& d);

// Where layers share keys and values: of each type of layer the last that has its own gives them to all after it.
struct KvSharing {
  int64_t first = 0;  // layer without keys and values of its own
  std::vector<int64_t> giver;
  std::vector<SharedKv> kind;
};
// By num_kv_shared_layers, absent `otherwise`.
KvSharing kv_sharing(const ConfigReader& hf, const std::vector<bool>& sliding, int64_t otherwise);

// What makes the inputs of all layers; width 0 where the model has none.
PerLayerInputsConfig per_layer_inputs_config(const Decoder& d, int64_t width, int64_t rows);

}  // namespace loraine
