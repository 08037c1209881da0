// The decoder on the GPU: a walk of its own over the layers that model/config.h describes, forward and backward, with the loss between
// them. Beside model/decoder.h, whose steps it takes in the same order; only what gpu_lacks names nothing of comes here. Called by
// train/gpu.
#pragma once
#include <vector>

#include "loraine/kernels/cuda/gemm.h"
#include "loraine/kernels/training/training_cuda.h"
#include "loraine/model/gpu/gpu_adapter.h"
#include "loraine/model/gpu/gpu_batch.h"
#include "loraine/model/gpu/gpu_model.h"

namespace loraine {

// Of each labelled row of a batch, in their order.
struct GpuLosses {
  std::vector<double> losses, plain;  // plain: −log p, where it was asked for
  std::vector<uint8_t> correct;
};

class GpuDecoder {
 public:
  GpuDecoder(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream);
  // Of device memory, beside those of model and adapter.
  static size_t bytes(const Model& model, const AdapterSet& set, int64_t most_rows);

  // Fills the hidden states. ctx: seed and step of dropout, which is on while training.
  void forward(const Context& ctx, const Batch& batch, bool training);
  // The losses of its labelled rows, which the host waits for; with grad_scale != 0 also d_hidden, of grad_scale · loss.
  GpuLosses losses(const TokenLoss& token, float grad_scale, bool plain);
  // From d_hidden to the gradients of the adapter, which are added up.
  void backward();
  Tensor d_hidden() const { return d_hidden_; }                               // [most rows, C] F32
  const std::vector<int64_t>& labelled() const { return batch_.labelled(); }  // rows of the batch with a label, ascending

 private:
  struct Kept {                      // of a branch, from forward to backward; *: in the activations' type
    Tensor x, rstd;                  // * what it reads, and its norm's statistics
    Tensor inner;                    // * q, k and v ready for attention, or gate and up
    Tensor before, head_rstd;        // * q, k and v before the norms of heads, their statistics
    Tensor o, lse;                   // * of attention
    Tensor in_columns, out_columns;  // * of the adapters
  };
  GpuDecoder(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream, GpuArena memory);
  void plan(int64_t rows);
  Tensor take(Dtype type, int64_t rows, int64_t cols) { return memory_.take(type, {rows, cols}); }
  Tensor now(const Tensor& t) const { return t.row_range(0, batch_.rows()); }  // its rows of this batch

  void linear(const Tensor& y, const Tensor& x, const GpuSite& site, const Tensor& columns);
  void linear_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const GpuSite& site, const Tensor& columns);
  void thin(ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, bool accumulate);
  void norm(const Tensor& y, const Tensor& rstd, const Tensor& x, const GpuNorm& norm);
  void norm_heads(const GpuBranch& branch, const Kept& kept);
  void norm_heads_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_qkv);
  void rotate(const GpuBranch& branch, const Tensor& qkv, float direction);
  void attention_forward(const GpuBranch& branch, const Kept& kept, const Tensor& y, const Tensor& h);
  void attention_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_h, const Tensor& d_y, const Tensor& h);
  void mlp_forward(const GpuBranch& branch, const Kept& kept, const Tensor& y, const Tensor& h);
  void mlp_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_h, const Tensor& d_y, const Tensor& h);
  void activate(const GpuBranch& branch, const Tensor& f, const Tensor& inner);
  int64_t first_trained_layer() const;

  const GpuModel& model_;
  const GpuAdapter& adapter_;
  GpuStream& stream_;
  std::optional<Gemm> gemm_;
  GpuArena memory_;
  GpuBatch batch_;
  bool training_ = false;

  std::vector<std::vector<Kept>> kept_;
  Tensor x_last_, last_rstd_, hidden_;  // *
  Tensor sum_;                          // [T, C] F32: the residual stream, with BF16 activations
  Tensor d_hidden_;
  // Room of a step. Of a branch: * its input, F32 what it gives and the gradient of its input, * that of what it gives.
  Tensor h_, y_, d_h_, d_y_;
  Tensor d_inner_, f_, d_f_, d_o_, delta_;        // * but for delta [T, heads] F32
  Tensor adapter_x_, adapter_g_;                  // * [T, in] after dropout, [T, R] gradient of the columns
  float* partial_ = nullptr;                      // of thin products
  Tensor loss_x_, logits_, d_logits_, d_loss_x_;  // of a chunk of labelled rows
  LossState* states_ = nullptr;
  double* loss_values_ = nullptr;  // [T] losses, [T] plain ones; then [T] correct
  uint8_t* correct_ = nullptr;
  GpuMemory loss_staging_;
};

}  // namespace loraine
