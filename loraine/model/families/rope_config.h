// The rotation that config.json describes: theta, the part of a head that turns, and the scalings of transformers (modeling_rope_utils).
#pragma once
#include <memory>
#include <string>

#include "loraine/model/families/config_reader.h"
#include "loraine/model/rope.h"

namespace loraine {

struct RopeKeys {
  int64_t head_dim = 0, max_position_embeddings = 0;
  RopeLayout layout = RopeLayout::half;
  double theta = 10000, partial = 1;  // when config.json gives none
  std::string layer_type;             // where rope_parameters holds one object per type of layer
  bool yarn_is_longrope = false;      // phi3's first files
};

// Throws bad_data naming the key.
std::shared_ptr<const Rope> read_rope(const ConfigReader& hf, const RopeKeys& keys);
// Its softmax factor for latent attention: g(mscale_all_dim)², 1 without yarn.
double yarn_softmax_factor(const ConfigReader& hf);
// The object with rope's keys: rope_parameters (transformers 5) or rope_scaling.
ConfigReader rope_object(const ConfigReader& hf, const std::string& layer_type = "");

}  // namespace loraine
