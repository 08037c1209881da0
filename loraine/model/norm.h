// The norms of a decoder: RMSNorm and LayerNorm with what families vary. Forward, rebuilt from its statistics, backward.
#pragma once
#include <string>
#include <vector>

#include "loraine/model/config.h"
#include "loraine/model/parameters.h"
#include "loraine/model/step.h"

namespace loraine {

class Placement;

struct Norm {
  NormConfig config;
  Vector weight, bias;
  explicit operator bool() const { return config.kind != NormKind::none; }
  int64_t statistics() const { return config.kind == NormKind::layer ? 2 : 1; }  // rows of F32 [statistics, T] that the forward writes
};

// `slice` below: where the weight has a row of its own for each of several pieces of the columns, which of them x is.
// path: of the module, "model.layers.0.input_layernorm"; shape: of its weight.
Norm place_norm(Placement& placement, const NormConfig& config, const std::string& path, const std::vector<int64_t>& shape);
void add_parts(Parts& parts, Norm& norm);

// y = norm(x): [T, C] of F32 or BF16 each; x and y may be the same. statistics [statistics(), T] F32, columns beyond the batch are left.
void norm_forward(const Step& s, const Norm& norm, const Tensor& y, const Tensor& statistics, const Tensor& x, int64_t slice = 0);
// The same bits from saved statistics.
void norm_rebuild(const Step& s, const Norm& norm, const Tensor& y, const Tensor& x, const Tensor& statistics, int64_t slice = 0);
// d_x (+)= gradient of x when its data is there; that of weight and bias where they are trained. d_x may be d_y.
void norm_backward(const Step& s, const Norm& norm, const AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x,
                   const Tensor& statistics, bool accumulate, int64_t slice = 0);
bool trains(const AdapterSet& set, const Norm& norm);

}  // namespace loraine
