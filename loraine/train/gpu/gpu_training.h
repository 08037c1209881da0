// What of a run lies and runs on the GPU: base, adapter, gradients and moments, the passes and the update. The step loop calls it in the
// place of the CPU's decoder, loss and optimizer. Values are the GPU's while it trains; `fetch` brings them to the host's tensors, which
// saving reads.
#pragma once
#include <memory>

#include "loraine/model/gpu/gpu_decoder.h"
#include "loraine/train/config/config.h"
#include "loraine/train/loss.h"
#include "loraine/train/optimizers/optimizer.h"

namespace loraine {

struct GpuTrainingShape {
  int64_t rows = 0;  // of the largest batch
  Recompute recompute = Recompute::none;
  int64_t side_rows = 0;               // of the largest that goes by beside, without a gradient; 0: there is none
  std::vector<Parameter> beside = {};  // whose gradients the host computes, and which are updated with the adapter
};

class GpuTraining {
 public:
  // Moves the base; the rest is put there by `put`. All of them outlive it.
  GpuTraining(const TrainConfig& config, const Model& model, const AdapterSet& set, Optimizer& optimizer, const GpuTrainingShape& shape)
      : GpuTraining(config, model, set, optimizer, shape, nullptr) {}
  // The same of shapes alone: what it would ask of the GPU is counted, and there is neither memory nor a card.
  GpuTraining(GpuCosts& costs, const TrainConfig& config, const Model& model, const AdapterSet& set, Optimizer& optimizer,
              const GpuTrainingShape& shape)
      : GpuTraining(config, model, set, optimizer, shape, &costs) {}
  // Planned device memory, by what the table of a run shows.
  struct Bytes {
    size_t base, adapter, decoder, other;  // decoder: with that of passes beside
    size_t all() const { return base + adapter + decoder + other; }
  };
  static Bytes bytes(const Model& model, const AdapterSet& set, const GpuTrainingShape& shape);

  void put();    // values and moments, from the host's tensors
  void fetch();  // the same and gradients, to them

  void zero_gradients();
  void forward(const Context& ctx, const Batch& batch, bool training, float embedding_noise = 0) {
    decoder_.forward(ctx, batch, training, embedding_noise);
  }
  GpuDecoder& decoder() { return decoder_; }  // for losses, and what objectives do with the states
  void backward() { decoder_.backward(); }
  // −log p of the batch's labels without a gradient, what the last forward kept stays: of the base alone, or with the adapter.
  LossSums side_losses(const Batch& batch, bool adapted);
  Tensor d_hidden() const { return decoder_.d_hidden(); }
  // Losses while training, and d_hidden: without a wait. `update` gives the loss.
  void losses_later(const TokenLoss& token, float grad_scale, double divisor) { decoder_.losses_later(token, grad_scale, divisor); }
  struct Updated {
    double loss;         // of all micro-batches since the last update
    double norm;         // of the gradients
    bool values_finite;  // after the update
  };
  // Clips and AdamW, step from 1; where the norm is not finite, values stay. The one wait of the host in an update.
  Updated update(double rate, int64_t step);
  GpuStream& stream() { return stream_; }

 private:
  GpuTraining(const TrainConfig& config, const Model& model, const AdapterSet& set, Optimizer& optimizer, const GpuTrainingShape& shape,
              GpuCosts* only_count);
  template <class Move>
  void each_beside(GpuAdapter::Kind kind, const Move& move);

  const TrainConfig& config_;
  Optimizer& optimizer_;
  GpuStream stream_;
  GpuModel model_;
  GpuAdapter adapter_;
  GpuDecoder decoder_;
  std::optional<GpuDecoder> side_;
  std::vector<Parameter> beside_;
  GpuMemory beside_staging_;
  GpuArena memory_;
  GpuMemory staging_;
  int64_t most_ = 0;  // elements of the largest tensor
  AdamWItem* items_ = nullptr;
  GradientItem* all_ = nullptr;       // [2] gradients, values
  AdamWScalars* scalars_ = nullptr;   // one for each of
  std::vector<double> rate_factors_;  // LoRA+
  GradientNorm* norm_ = nullptr;      // [2] of gradients, of values
  double* partial_ = nullptr;
};

}  // namespace loraine
