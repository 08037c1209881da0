// The decoder on the GPU: a walk of its own over the layers that model/config.h describes, forward and backward, with the loss between
// them. Beside model/decoder.h, whose steps it takes in the same order; only what gpu_lacks names nothing of comes here. Called by
// train/gpu, and to be asked by gpu_answers.
#pragma once
#include <span>
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
  std::vector<double> logit_means;    // over the vocabulary, where they were asked for
  std::vector<uint8_t> correct;
};

// Keys and values of sequences that are continued, in pages: per layer and branch those of attention, [rows, kv size], in the type of the
// activations.
struct GpuKvCache {
  GpuKvCache(const GpuModel& model, int64_t pages);
  static size_t bytes(const GpuModel& model, int64_t pages);
  struct Rows {
    Tensor k, v;
  };
  std::vector<std::vector<Rows>> layers;
  std::vector<Tensor> all() const;

 private:
  GpuKvCache() = default;
  void lay_out(const GpuModel& model, int64_t pages, GpuArena& arena);
  GpuArena memory_;
};

// Who runs which rows of a batch.
struct GpuAdapterRows {
  int64_t start = 0, length = 0;
  const GpuAdapter* adapter = nullptr;
};

// What a decoder without a backward is planned for.
struct GpuAskedShape {
  int64_t rows = 0;          // of the largest batch
  int64_t rank_columns = 1;  // of the widest adapter
  int64_t logit_rows = 0;    // whose logits are there at a time
  const GpuKvCache* cache = nullptr;
  int64_t pages = 0, sequences = 0;  // of the cache, and most sequences in a batch
};

class GpuDecoder {
 public:
  // With a backward, of the adapter, which all rows run with.
  GpuDecoder(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream, Recompute recompute = Recompute::none);
  // Without one: nothing is kept, and the rows of a batch may run with several adapters or none.
  GpuDecoder(const GpuModel& model, const GpuAskedShape& shape, GpuStream& stream);
  // Without memory, of model and adapter that have none either: for a stream that only counts.
  static GpuDecoder shapes(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream, Recompute recompute);
  // Of device memory, beside those of model, adapter and cache.
  static size_t bytes(const Model& model, const AdapterSet& set, int64_t most_rows, Recompute recompute = Recompute::none);
  static size_t bytes(const GpuModel& model, const GpuAskedShape& shape);
  // What make_room_for takes of it for one adapter.
  static size_t room_bytes(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows);

  // Fills the hidden states. ctx: seed and step of dropout, which is on while training, and of noise of at most that size on the
  // embeddings.
  void forward(const Context& ctx, const Batch& batch, bool training, float embedding_noise = 0);
  // The same without a backward: each adapter has been made room for before.
  void forward(const Batch& batch, std::span<const GpuAdapterRows> adapters);
  void make_room_for(const GpuAdapter& adapter);
  // logits [n, V] F32 in the host's memory, of rows of the last batch: at most logit_rows() at a time.
  void logits(const Tensor& logits, std::span<const int64_t> rows);
  int64_t logit_rows() const { return logits_.rows(); }
  // The losses of its labelled rows, which the host waits for; with grad_scale != 0 also d_hidden, of grad_scale · loss.
  GpuLosses losses(const TokenLoss& token, float grad_scale, bool plain, bool logit_means = false);
  // The same without a wait. Their sum over the divisor is in what take_losses gives, of all batches since it was called last, once the
  // host has waited for the stream.
  void losses_later(const TokenLoss& token, float grad_scale, double divisor);
  double take_losses();
  // d_hidden of each row of the batch times its factor.
  void scale_gradients(std::span<const float> of_rows);
  // Hidden states in those rows, F32 [n, C] in the host's memory; and d_hidden = d in them and 0 elsewhere.
  void states(const Tensor& states, std::span<const int64_t> rows);
  void put_gradients(const Tensor& d, std::span<const int64_t> rows);
  // From d_hidden to the gradients of the adapter, which are added up.
  void backward();
  Tensor d_hidden() const { return d_hidden_; }                               // [most rows, C] F32
  const std::vector<int64_t>& labelled() const { return batch_.labelled(); }  // rows of the batch with a label, ascending

 private:
  struct Kept {                      // of a branch, from forward to backward; *: in the activations' type
    Tensor x, statistics;            // * what it reads, and its norm's statistics
    Tensor sum;                      // * the residual stream that it adds to: x itself but for a branch beside another
    Tensor given, after;             // * what the mixer gave, and the statistics of the norm after it
    Tensor inner;                    // * q, k and v ready for attention, or gate and up
    Tensor before, head_rstd;        // * q, k and v before the norms of heads, their statistics
    Tensor o, lse;                   // * of attention
    Tensor in_columns, out_columns;  // * of the adapters
    const GpuKvCache::Rows* cache = nullptr;
  };
  struct Shape {
    int64_t rows;
    const GpuAdapter* trained;  // nullptr: there is no backward
    Recompute recompute;
    GpuAskedShape asked;
    int64_t pages() const { return asked.pages * asked.sequences; }
    // Whether the insides of the branch lie in room that layers share.
    bool shares(const GpuBranch& branch) const {
      return !trained || recompute == Recompute::block || (recompute == Recompute::mlp && branch.mlp);
    }
  };
  GpuDecoder(const GpuModel& model, const Shape& shape, GpuStream& stream, GpuArena memory);
  static size_t planned_bytes(const GpuModel& model, const Shape& shape, GpuStream& stream);
  void plan();
  void plan_kept();
  void plan_head();
  Tensor take(Dtype type, int64_t rows, int64_t cols) { return memory_.take(type, {rows, cols}); }
  Tensor now(const Tensor& t) const { return t.row_range(0, batch_.rows()); }  // its rows of this batch

  void run_layers();
  // Whether adapter and base of the site are one product here.
  bool takes_joined(const GpuSite& site) const { return shape_.trained && site.ranks() > 0; }
  Tensor input_of(const GpuBranch& branch, const Tensor& x);
  Tensor weight_of(const GpuSite& site);      // unpacked where it is packed: good until the next one is
  bool runs_dora(const GpuSite& site) const;  // whether rows of this batch run with DoRA there
  void linear(const Tensor& y, const Tensor& x, const GpuSite& site, const Tensor& columns, bool accumulate = false);
  void add_low_rank(const Tensor& y, const Tensor& columns, const GpuLora& lora, bool accumulate);
  Tensor low_rank_backward(const Tensor& d_y, const Tensor& columns, const GpuLora& lora);
  void refresh(const GpuAdapter& adapter);
  void dora_forward(const Tensor& y, int64_t start, const Tensor& w, const GpuLora& lora, const Tensor& columns);
  void dora_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& w, const GpuLora& lora, const Tensor& columns);
  void adapter_columns(const Tensor& columns, const Tensor& x, const GpuSite& site);
  void linear_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const GpuSite& site, const Tensor& columns);
  void linear_backward_a(const Tensor& d_y, const Tensor& x, const GpuSite& site);
  void thin(ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, bool accumulate);
  void norm(const Tensor& y, const Tensor& statistics, const Tensor& x, const GpuNorm& norm);
  void norm_rebuild(const Tensor& y, const Tensor& x, const Tensor& statistics, const GpuNorm& norm);
  void norm_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& statistics, const GpuNorm& norm, bool accumulate,
                     const Tensor& rounded = {}, const Tensor& h = {});
  Tensor statistic(const Tensor& statistics, int64_t which) const;
  Tensor head_statistics(const GpuBranch& branch, const Kept& kept) const;
  void head_logits(const Tensor& logits, const Tensor& x);
  void run_losses(const TokenLoss& token, float grad_scale, bool plain);
  void ask_rows(std::span<const int64_t> rows);
  void norm_heads(const GpuBranch& branch, const Kept& kept);
  void norm_heads_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_qkv);
  void rotate(const GpuBranch& branch, const Tensor& qkv, float direction);
  void attention_inside(const GpuBranch& branch, const Kept& kept, const Tensor& h);
  void attention_forward(const GpuBranch& branch, const Kept& kept, const Tensor& y, const Tensor& h, bool accumulate);
  void attention_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_h, const Tensor& d_y, const Tensor& h);
  Tensor mlp_inside(const GpuBranch& branch, const Kept& kept, const Tensor& h);
  void mlp_forward(const GpuBranch& branch, const Kept& kept, const Tensor& y, const Tensor& h, bool accumulate);
  void mlp_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_h, const Tensor& d_y, const Tensor& h);
  void activate(const GpuBranch& branch, const Tensor& f, const Tensor& inner);
  int64_t first_trained_layer() const;

  const GpuModel& model_;
  const Shape shape_;
  GpuStream& stream_;
  std::optional<Gemm> gemm_;
  GpuArena memory_;
  GpuBatch batch_;
  std::vector<GpuAdapterRows> adapters_;  // of this batch
  bool training_ = false, noisy_ = false;

  std::vector<std::vector<Kept>> kept_;
  Tensor x_last_, last_statistics_, hidden_;  // *
  Tensor sum_;                                // [T, C] F32: the residual stream, with BF16 activations
  Tensor d_hidden_;
  // Room of a step. Of a branch: * its input, F32 what it gives, * the gradients of its input and of what it gives. Of joined sites what
  // is multiplied (h_, f_, o, d_y_, d_inner_) has room for more columns.
  Tensor h_, y_, d_h_, d_y_;
  Tensor d_group_;                                // F32, where branches lie beside each other: the gradient of their sum
  Tensor d_inner_, f_, d_f_, d_o_, delta_;        // * but for delta [T, heads] F32
  Tensor unpacked_;                               // * [1, most], of a packed weight
  Tensor adapter_x_, adapter_g_;                  // * [T, in] after dropout, [T, R] gradient of the columns
  Tensor dora_z_;                                 // * [T, out] before the magnitudes, and its gradient
  double* dora_partial_ = nullptr;                // of sums over rows
  float* partial_ = nullptr;                      // of thin products: planned, or asked_room_
  GpuMemory asked_room_;                          // grows with the adapters
  int64_t* asked_rows_ = nullptr;                 // whose logits or states are asked for
  float* row_factors_ = nullptr;                  // [T]
  Tensor loss_x_, logits_, d_logits_, d_loss_x_;  // of a chunk of labelled rows
  LossState* states_ = nullptr;
  double* loss_values_ = nullptr;  // [T] losses, [T] plain ones; then [T] correct
  uint8_t* correct_ = nullptr;
  GpuMemory loss_staging_, logit_staging_;
  struct Later {
    int64_t rows;
    double divisor;
  };
  std::vector<Later> later_;              // batches whose losses nobody has taken yet
  std::vector<GpuMemory> later_staging_;  // pinned, of each
};

}  // namespace loraine
