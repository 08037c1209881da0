// One layer of the decoder: its branches one after the other, each a mixer between norms. Called by decoder and activations.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "loraine/model/mixer.h"
#include "loraine/model/norm.h"

namespace loraine {

struct Branch {
  Norm before, after;
  std::unique_ptr<Mixer> mixer;
  float scale = 1;
  bool beside = false;
  float stream_scale = 1;
  std::optional<float> normed_residual = {};  // config.h has what these mean
  Parts parts();
};

class Layer {
 public:
  std::vector<Branch> branches;
  Parts parts();
};

// Whether the backward of layer `layer` computes the branch once more instead of finding it kept, and whether it then needs what the mixer
// gives, not only what that keeps.
bool runs_again(const Activations& all, const Branch& branch);
bool gives_again(const Activations& all, const Layer& layer, size_t branch);

// From x of the layer's first branch to x_next [T, C], the residual stream after the layer.
void layer_forward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer, const Tensor& x_next);
// What the forward did not keep; called where the backward of the layer begins. The last layer's is still there.
void layer_again(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer);
// d_x [T, C] F32: gradient of the layer's output on entry, of its input on return (left unfinished when the layer is the first one that is
// trained).
void layer_backward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, int64_t layer, AdapterSet& trained, const Tensor& d_x,
                    bool first);
// Whether anything of the layer is trained.
bool trains(const AdapterSet& set, Layer& layer);

}  // namespace loraine
