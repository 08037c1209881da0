// The form that the settings give the base in memory. Called by every command that loads a model to train or to ask it.
#pragma once
#include <string>
#include <vector>

#include "loraine/io/hub/hub.h"
#include "loraine/model/decoder.h"
#include "loraine/model/load.h"
#include "loraine/train/config/config.h"

namespace loraine {

// What training does with several.
constexpr const char* kSeveralAdapters = "training merges all but the last into the base and goes on with that";

LoadOptions load_options(const TrainConfig& config);
// The same for a model that is asked: infer_dtype counts in place of bf16 unless it is `auto`.
LoadOptions answer_load_options(const TrainConfig& config);
// A warning when infer_dtype names a type that nothing is computed in; else empty.
std::string not_computed_in(const TrainConfig& config);
// The least that the backward computes once more instead of keeping it. `auto` begins at `mlp` over a base that is quantised (in the file
// or by quantization_bit), since that is chosen for little memory, and at `none` over any other and with int8 products, chosen for speed; a
// memory limit may ask for more.
Recompute least_recompute(const TrainConfig& config, const Model& model);
// A warning when the settings quantise a model that is stored quantised already, which stays as it is; else empty.
std::string quantised_already(const ModelFiles& files, const TrainConfig& config);
// The folders of adapter_name_or_path where a command puts them together; ids are found or downloaded. Throws what joined_adapters
// (`several`: what the command does with several) and find_place throw.
std::vector<FoundPlace> adapter_places(const TrainConfig& config, const std::string& several);

// rope_scaling, written into files.config as LLaMA-Factory does it: training stretches positions by ceil(cutoff_len / the model's longest)
// where that is above 1, everything else by 2. Gives what was done, in words; empty: nothing was asked for. Throws bad_data where the model
// does not say how long its positions are or has a scaling already.
std::string stretch_positions(ModelFiles& files, const TrainConfig& config, bool training);

}  // namespace loraine
