// A model whose linear layers are quantised with the help of texts that go through it, layer by layer. Called by loraine export.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/export/calibrated/packed_spool.h"
#include "loraine/io/files/json_file.h"
#include "loraine/model/model.h"
#include "loraine/quant/gptq.h"

namespace loraine {

struct CalibrationReport {
  int64_t matrices = 0, tokens = 0;
  double error = 0, of_nearest = 0;  // Σ over layers of the squared error of their products by that of the products: as quantised, and as
                                     // rounding to the nearest code would have it
};

struct CalibratedModel {
  Model& model;  // is as it was before, afterwards
  const std::vector<std::vector<int32_t>>& texts;
  GroupScheme scheme;
  PackedSpool& spool;                          // gets the tensors of every quantised module
  std::function<void(int64_t layer)> started;  // may be absent
  std::function<bool()> keep_going;            // asked before each layer; false: Stopped is thrown
};

// Throws unsupported, naming the module, for what cannot be held in such codes.
void check_quantisable(const Model& model, const GroupScheme& scheme, const std::string& method);

// Memory, beside LayerWalk's: one layer in F32, and four matrices [in, in] of its widest input.
CalibrationReport gptq_model(const CalibratedModel& what);

// AWQ, 4 bits with zeros. Memory, beside LayerWalk's: one layer in F32, and a matrix [in, in] for each of its inputs. Norms and rows that
// feed what is scaled are among the spool's tensors. Throws unsupported for layers that are not norm, attention, norm, gated MLP.
CalibrationReport awq_model(const CalibratedModel& what);

// The weights of a plain model with those of quantised modules in the place of their matrices.
std::vector<WeightToWrite> with_packed(const Model& model, std::vector<WeightToWrite> weights, PackedSpool& spool);

// quantization_config of config.json, which quantize_config.json has too.
Json gptq_config(const GroupScheme& scheme);
Json awq_config(const GroupScheme& scheme);

}  // namespace loraine
