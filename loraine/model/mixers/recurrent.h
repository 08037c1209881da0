// What mixers with a state share: which row of a carried tensor each sequence has, the convolution before most recurrences, and the norm,
// gate and product after them.
#pragma once
#include <string>
#include <vector>

#include "loraine/kernels/recurrent/gated_norm.h"
#include "loraine/kernels/recurrent/recurrent_state.h"
#include "loraine/model/mixer.h"

namespace loraine {

class Placement;

// Sequence.slot of each sequence.
std::vector<int64_t> slots_of(const Step& s);
// What stands in the place of the base's vectors. A set that has any runs alone.
const DenseSet* dense_set(const Step& s);
// d[c] += Σ_t a[t, c] · b[t, c]
void add_column_dots(const Step& s, const Tensor& d, const Tensor& a, const Tensor& b);

// A causal depthwise convolution over some columns, silu after it or nothing.
struct ShortConvolution {
  int64_t channels = 0, taps = 0;
  bool silu = true;
  Vector weight, bias;  // [channels, 1, taps]; bias without values: none

  void place(Placement& placement, const std::string& path, bool has_bias);
  void add_parts(Parts& parts);
  int64_t state_columns() const { return (taps - 1) * channels; }
  // y, x [T, channels]; state [sequences, state_columns] F32 while decoding.
  void forward(const Step& s, const Tensor& y, const Tensor& x, const Tensor& state) const;
  // d_x may be d_y. Gradients of weight and bias are added up where they are trained.
  void backward(const Step& s, const AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const;
};

// y = product(gated_norm(x, gate)); nothing of it is kept.
struct GatedOutput {
  GatedNormShape shape;  // width 0: a gate alone
  Vector norm;
  Site product{.gives_output = true};
  // y [T, C] F32; x, gate [T, columns of the product].
  void forward(const Step& s, const Tensor& y, const Tensor& x, const Tensor& gate) const;
  // Overwrites d_x and d_gate, in the activations' type. Gradients of the trained set are accumulated.
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x,
                const Tensor& gate) const;
};

}  // namespace loraine
