// A mixer is what a branch of a layer does between its norms: attention and its kin mix tokens, an MLP and experts mix channels. One pair
// of files each in mixers/: forward, hand-written backward, what is kept between them, what decoding carries on.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/model/parameters.h"
#include "loraine/model/step.h"

namespace loraine {

class Placement;

// What sizes are asked for.
struct PassNeed {
  int64_t rows = 0, longest = 0;  // of a batch; of one sequence in it, where that counts
  Dtype type = Dtype::F32;        // of activations
  bool training = false;
  int64_t adapter_columns = 0;  // most that an adapter takes per row at any site, scratch included
  int64_t expert_columns = 0;   // largest rank of an adapter on experts
  int64_t shared = 0;           // rows of sequences of which some share rows; 0: none does
};

class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual Parts parts() = 0;
  // Whether it treats every row by itself: Recompute::mlp computes such a mixer once more instead of keeping what it gave.
  virtual bool mixes_channels() const = 0;
  // Tokens that a sequence may have at most to share the rows it begins with (Sequence::parent). A mixer that carries a state along the
  // rows cannot begin in the middle of them: 0.
  virtual int64_t shares_up_to() const { return mixes_channels() ? INT64_MAX : 0; }
  // Takes from the arena what the forward keeps for the backward, in an order of the mixer's own (Step::kept).
  virtual std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const = 0;
  // The same for what later layers read too, which is kept whatever is computed once more (BranchActivations::lasting).
  virtual std::vector<Tensor> plan_lasting(Arena&, int64_t /*rows*/, Dtype, bool /*training*/) const { return {}; }
  // Most scratch that forward (and backward, when training) take, beyond x, y and their gradients.
  virtual size_t scratch_bytes(const PassNeed& need) const = 0;
  virtual int64_t experts_per_row() const { return 0; }
  // What each thread of the backward keeps for itself.
  virtual size_t thread_bytes(const PassNeed&) const { return 0; }
  // Takes what decoding carries from one batch to the next: rows of keys and values, states of `sequences` sequences (Step::carried).
  virtual std::vector<Tensor> plan_carried(Arena&, int64_t /*rows*/, int64_t /*sequences*/, Dtype) const { return {}; }
  // Floating point operations of a forward over one sequence, beside the products with its sites.
  virtual double flops(int64_t /*tokens*/) const { return 0; }
  // y [T, C] F32 = mixer(x [T, C]), x in the activations' type. y.data == nullptr: once more, for what is kept alone.
  virtual void forward(const Step& s, const Tensor& y, const Tensor& x) const = 0;
  // d_x [T, C] F32 from d_y [T, C] F32; x as in the forward. d_x.data == nullptr: nothing below is trained. Gradients of the trained set
  // are accumulated.
  virtual void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const = 0;
};

// What a family says of a mixer; the mixer's header has the fields.
class MixerConfig {
 public:
  virtual ~MixerConfig() = default;
  // The mixer with its weights, whose names begin with `layer`: "model.layers.3."
  virtual std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const = 0;
};

}  // namespace loraine
