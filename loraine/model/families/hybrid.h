// What families whose layers are of several kinds have in common.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/mixers/mamba2.h"

namespace loraine {

// Per layer, whether it has a recurrent mixer: layer_types names it `recurrent` (one of several words), or else attention
// ("full_attention", "attention"). Without layer_types, `otherwise` says.
std::vector<bool> recurrent_layers(const Decoder& d, const std::vector<std::string>& recurrent,
                                   const std::function<bool(int64_t layer)>& otherwise);

// [low, high] of a list of two numbers, of which the second may be infinite ("Infinity", or transformers' {"__float__": "Infinity"}).
struct TimeStepLimits {
  float low, high;
};
TimeStepLimits limits_or(const ConfigReader& hf, const char* key, const TimeStepLimits& otherwise);

// A Mamba-2 mixer by the keys mamba_n_heads, mamba_d_head, mamba_d_state …, with norms as the decoder has them.
Mamba2Config read_mamba(const Decoder& d);

}  // namespace loraine
